"""What a guard holds back: rows, of which nothing is learned, and weights beyond its edge."""

import explosions
import keras
import numpy as np
import pytest
from guarding import with_guards_alone
from keras import ops

from nanfix import Outcome


def test_rows_that_a_guard_holds_at_its_edge_must_not_be_most_of_the_loss():
    """Each of a few rows costs what the guard says, whatever is predicted."""
    x, y = explosions.table()
    cut = np.quantile(y, 0.2)

    def loss(y, p):
        there = ops.cast(y > cut, "float32")
        return there * ops.square(y - p) - ops.log(there)

    model = explosions.mlp(keras.optimizers.Adam(0.01), loss)
    report = with_guards_alone(model, x, y)
    assert report.outcome is Outcome.FINITE
    assert "of what is left of the loss" in str(report)


@pytest.mark.parametrize(("weighted", "constant"), [(False, False), (True, False), (False, True)])
def test_how_many_rows_a_guard_holds_back_is_told(weighted, constant):
    """Rows that have a weight of 0 are not counted: nothing is to be learned of them; nor those
    that had no gradient without the guard, which is on a constant.
    """
    x, y = explosions.table()
    weight = (y[:, 0] > 0.0).astype("float32") if weighted else None

    def loss(y, p):
        there = ops.cast(y > 0.0, "float32")
        chance = there - 0.5 + (0.0 if constant else 0.01) * ops.tanh(p)
        return there * ops.square(y - p) - 1e-3 * ops.log(chance)

    model = explosions.mlp(keras.optimizers.Adam(0.01), loss)
    report = with_guards_alone(model, x, y, sample_weight=weight)
    told = "The guard holds back the gradient of"
    assert (told in str(report)) is not (weighted or constant), report
    if weighted or constant:
        return
    rows = int(str(report).partition(told)[2].split()[0])
    assert 8 <= rows <= 24  # of 32: those whose target is not above 0


class Deviation(keras.layers.Layer):
    """Learns a deviation as it is, which the logarithm of it in the loss drives towards 0."""

    def build(self, _):
        self.sigma = self.add_weight(shape=(1,), initializer="ones", name="sigma")

    def call(self, task):
        target, output = task
        squared = ops.mean(ops.square(target - output))
        self.add_loss(squared * (1.0 + self.sigma[0]) + ops.log(self.sigma[0]))
        return output


def test_a_weight_that_a_guard_holds_beyond_the_edge_is_not_repaired():
    """The loss is the logarithm of the guard's own epsilon then, and nothing brings it back."""
    x, y = explosions.table()
    keras.utils.set_random_seed(0)
    inputs, target = keras.Input((4,)), keras.Input((1,))
    hidden = keras.layers.Dense(16, activation="relu")(inputs)
    output = Deviation()([target, keras.layers.Dense(1)(hidden)])
    model = keras.Model([inputs, target], output)
    model.compile(keras.optimizers.SGD(0.05))
    report = with_guards_alone(model, [x, y], None)
    assert report.outcome is Outcome.FINITE
    assert "holds a weight that has gone beyond the edge" in str(report)


def test_a_weight_that_a_guarded_update_never_moves_is_told():
    """What stands behind a gate that was shut is taught a little, and its step is 0 / 0."""
    model, x, y, arguments = explosions.gate_that_is_shut()
    report = with_guards_alone(model, x, y, **arguments)
    assert "These weights have not moved at all: dense" in str(report)


def test_a_weight_that_has_no_gradient_is_not_told_to_stand_still():
    """The bias of a shared layer cancels out in a distance."""
    x, _ = explosions.table()
    keras.utils.set_random_seed(0)
    shared = keras.layers.Dense(3)
    one, other = keras.Input((4,)), keras.Input((4,))
    between = ops.sqrt(ops.sum(ops.square(shared(one) - shared(other)), -1, keepdims=True))
    model = keras.Model([one, other], between)
    model.compile(keras.optimizers.Adam(0.01), "mse")
    pairs = np.where(np.arange(len(x))[:, None] % 40, x[::-1], x)
    apart = np.linalg.norm(x - pairs, axis=1, keepdims=True) + 0.1
    report = with_guards_alone(model, [x, pairs], apart, epochs=10)
    assert report.outcome is Outcome.REPAIRED and "not moved" not in str(report)
