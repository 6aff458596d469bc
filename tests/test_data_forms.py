"""Every form in which Keras takes data: a healthy run comes out as Keras makes it, a failing one is
explained and repaired.
"""

import keras
import numpy as np
import pytest
from data_forms import FORMS, with_torch
from parameters import shortened

import nanfix
from nanfix import Budget, Cause, Outcome

QUICK = {"strategies": ["lower-learning-rate"], "budget": Budget(trials=3), "throw": False}


# Repaired in `make test`: forms that no training in tests/legal has which is repaired there. The
# others differ in what Keras makes of them, which the healthy runs show.
REPAIRED = ("scipy", "ragged tensor", "held endless", "endless")


@pytest.fixture
def form(request, monkeypatch):
    if request.param == "torch":
        with_torch(monkeypatch)
    return request.param


def trained(form, optimizer, fit=nanfix.fit, **more):
    keras.utils.set_random_seed(0)
    model = FORMS[form].compiled(optimizer)
    data, arguments = FORMS[form].fit()
    return model, fit(model, *data, **arguments, **more)


def by_keras(model, *data, **arguments):
    return model.fit(*data, **arguments)


@pytest.mark.parametrize("form", FORMS, indirect=True)
@pytest.mark.filterwarnings("ignore")  # of Keras, which says what it makes of such data
def test_healthy_training_comes_out_as_keras_makes_it(form):
    plain, history = trained(form, keras.optimizers.SGD(0.01), by_keras)
    watched, report = trained(form, keras.optimizers.SGD(0.01))
    assert report.outcome is Outcome.HEALTHY and report.history == history.history
    for one, other in zip(plain.get_weights(), watched.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("form", shortened(FORMS, REPAIRED), indirect=True)
@pytest.mark.filterwarnings("ignore")  # of Keras, which says what it makes of such data
def test_failing_training_is_explained_and_repaired(form):
    model, report = trained(form, keras.optimizers.SGD(300.0), **QUICK)
    assert report.diagnosis.cause is Cause.LEARNING_RATE
    assert all(np.isfinite(weight).all() for weight in model.get_weights())
    assert report.outcome is Outcome.REPAIRED or any(
        trial.loss is not None for trial in report.trials
    )
