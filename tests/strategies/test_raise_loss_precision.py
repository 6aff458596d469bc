"""raise-loss-precision: what rounding leaves nothing of in float32 is computed in float64."""

import keras
import numpy as np
import pytest
from keras import ops

import nanfix
from nanfix import Outcome
from nanfix.changes.loss import RobustLoss
from nanfix.changes.plan import Plan
from nanfix.records.cause import Cause
from nanfix.records.diagnosis import Phase, Place
from nanfix.remedies.registry import get
from nanfix.testing import contract

NAME = "raise-loss-precision"
ROWS = 240


def of_an_interval(y, p):
    """The likelihood that it ends within the next second, after y of them."""
    scale = 1e7 * ops.exp(p)
    return -ops.log(ops.exp(-y / scale) - ops.exp(-(y + 1.0) / scale))


class OfAnInterval(keras.losses.Loss):
    def call(self, y_true, y_pred):
        return of_an_interval(y_true, y_pred)


def of_a_share(y, p):
    """0 in float64, too."""
    return -ops.log(ops.relu(p - 1e3) + 0.0 * y)


def overflowing(y, p):
    return ops.exp(200.0 + p) - y


def data():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(ROWS, 4)).astype("float32")
    rate = np.exp(0.5 * x[:, :1] - 0.3 * x[:, 1:2])
    return x, np.floor(3e7 * rate * rng.weibull(2.0, (ROWS, 1))).astype("float32")


def compiled(loss):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8, "tanh")])
    model.add(keras.layers.Dense(1))
    model.compile(keras.optimizers.Adam(0.02), loss)
    return model


def situations():
    """Runs that this strategy is for, beside those that all strategies are tried in."""
    return {"a loss that cancels": contract.run_of(compiled(of_an_interval), *data())}


def applies(loss, operation="Log", phase=Phase.LOSS, plan=None):
    diagnosis = contract.diagnosis(Cause.LOSS_DOMAIN, place=Place(phase, operation=operation))
    run = contract.run_of(compiled(loss), *data())
    return contract.applies(get(NAME), diagnosis, run, plan or Plan())


@pytest.mark.parametrize("loss", [of_an_interval, OfAnInterval()])
def test_applies_where_the_loss_is_finite_in_float64_alone(loss):
    assert applies(loss)


@pytest.mark.parametrize(
    "given",
    [
        {"loss": of_a_share},
        {"loss": overflowing, "operation": "Exp"},
        {"loss": of_an_interval, "phase": Phase.FORWARD},
        {"loss": "mse"},
        {"loss": of_an_interval, "plan": Plan().with_change(RobustLoss("Huber"))},
    ],
    ids=["0 in float64, too", "overflows", "in the model", "finite", "another loss"],
)
def test_does_not_apply_otherwise(given):
    assert not applies(**given)


@pytest.mark.parametrize("loss", [of_an_interval, OfAnInterval()])
def test_repairs_a_likelihood_of_great_times(loss):
    x, y = data()
    model = compiled(loss)
    arguments = {"epochs": 12, "batch_size": 16, "validation_split": 0.25, "verbose": 0}
    report = nanfix.fit(model, x, y, **arguments)
    assert report.outcome is Outcome.REPAIRED, str(report)
    assert [edit.strategy for edit in report.fix.edits] == [NAME]
    assert "float32 again" in report.notes[0]
    rate = 0.5 * x[:, 0] - 0.3 * x[:, 1]
    assert np.corrcoef(model.predict(x, verbose=0)[:, 0], rate)[0, 1] > 0.9


def test_trains_as_a_loss_does_that_casts_by_itself():
    def by_hand(y, p):
        loss = of_an_interval(ops.cast(y, "float64"), ops.cast(p, "float64"))
        return ops.cast(loss, "float32")

    x, y = data()
    arguments = {"epochs": 2, "batch_size": 16, "shuffle": False, "verbose": 0}
    expert = compiled(by_hand)
    expected = expert.fit(x, y, **arguments).history["loss"]
    model = compiled(of_an_interval)
    edit = nanfix.Edit(NAME, {"dtype": "float64"})
    report = nanfix.apply(model, nanfix.Fix((edit,)), x, y, **arguments)
    assert report.history["loss"] == pytest.approx(expected, rel=1e-6)
    for own, theirs in zip(model.get_weights(), expert.get_weights(), strict=True):
        np.testing.assert_allclose(own, theirs, rtol=1e-4, atol=1e-5)
