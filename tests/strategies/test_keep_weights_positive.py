"""keep-weights-positive: which weights it holds, and a precision that would pass through 0."""

from types import SimpleNamespace

import explosions
import keras
import numpy as np
import pytest
from keras import layers, ops

import nanfix
from nanfix.changes.least_weights import LeastWeights
from nanfix.changes.plan import Plan
from nanfix.records.cause import Cause
from nanfix.records.fallen_weight import FallenWeight
from nanfix.remedies.registry import get
from nanfix.testing import contract

NAME = "keep-weights-positive"
FALLEN = FallenWeight("precision[0]", "tau", 1.0, -0.1)


def fallen(*weights):
    return contract.diagnosis(Cause.LOSS_DOMAIN, fallen_weights=weights)


def situations():
    """Return a run for tests/test_contract.py."""
    return {"a precision": contract.run_of(*explosions.falling_precision()[:3])}


def test_it_holds_a_weight_at_a_share_of_what_it_began_with():
    (run,) = situations().values()
    found = contract.levels(get(NAME), fallen(FALLEN), run)
    plans = [get(NAME).apply(run, Plan(), **each) for each in found]
    least = [plan.of(LeastWeights).least for plan in plans]
    assert least == [{"precision[0]": {"tau": share}} for share in (1e-3, 1e-2, 1e-1)]


def test_it_is_for_weights_that_have_fallen_and_are_there():
    (run,) = situations().values()
    assert not contract.applies(get(NAME), fallen(), run)
    other = FallenWeight("precision[0]", "gamma", 1.0, -0.1)
    assert get(NAME).refusal(fallen(other), run, Plan()) == (
        "the model has no weight gamma of layer precision[0]"
    )


class Free(keras.Model):
    """Has a precision of its own."""

    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(1)
        self.tau = self.add_weight(shape=(), initializer="ones", name="tau")

    def call(self, x):
        return self.dense(x)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        return 0.5 * ops.mean(self.tau * ops.square(y - y_pred) - ops.log(self.tau))


@pytest.mark.parametrize("before", [None, keras.constraints.NonNeg()])
def test_a_constraint_of_the_users_comes_first_and_is_given_back(before):
    model = explosions.falling_precision()[0]
    layer, undo = model.layers[-1], []
    layer.tau.constraint = before
    stack = SimpleNamespace(callback=lambda *call: undo.append(call))
    shop = SimpleNamespace(layers={"precision[0]": layer}, model=model, repair=stack)
    LeastWeights({"precision[0]": {"tau": 0.25}}).install(shop, Plan())
    given = np.float32([-3.0, 0.5])
    np.testing.assert_array_equal(layer.tau.constraint(given), [0.25, 0.5])
    ((function, *arguments),) = undo
    function(*arguments)
    assert layer.tau.constraint is before


def test_a_precision_is_learned_as_well_as_by_an_expert():
    def softplus(y, p):
        tau = ops.softplus(p[:, 1:])
        return explosions.gaussian_of_precision(y, ops.concatenate([p[:, :1], tau], axis=-1))

    model, x, y, arguments = explosions.falling_precision()
    model.compile(keras.optimizers.SGD(0.05), softplus)
    expert = model.fit(x, y, **arguments).history["val_loss"][-1]
    model, x, y, arguments = explosions.falling_precision()
    report = nanfix.fit(model, x, y, strategies=[NAME], throw=False, **arguments)
    assert report.outcome is nanfix.Outcome.REPAIRED
    assert report.history["val_loss"][-1] < expert + 0.1
    assert "weight tau of layer precision[0], which began at 1, has fallen to" in str(report)
    assert "Keep weight tau of layer precision[0] above 0" in report.diagnosis.advice


def test_a_weight_of_the_model_itself_is_held_in_place_of_the_operation_on_it():
    x, y = explosions.table()
    keras.utils.set_random_seed(0)
    model = Free()
    model.compile(keras.optimizers.SGD(0.05))
    report = nanfix.fit(model, x, 5.0 * y, epochs=20, batch_size=16, verbose=0)
    assert report.outcome is nanfix.Outcome.REPAIRED
    assert [edit.strategy for edit in report.fix.edits] == [NAME]
    assert "weight tau of the model" in str(report) and float(model.tau) > 0.0
