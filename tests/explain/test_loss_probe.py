"""Losses at outputs that the model does not give yet: without a minimum, defined with another last
activation, unmoved.
"""

from pathlib import Path

import explosions
import keras
import numpy as np
import pytest
from keras import layers, ops

from nanfix.changes.guards import Guard
from nanfix.explain.loss_probe import (
    OF_OUTPUTS,
    OF_ROWS,
    falls_far_out,
    falls_without_end,
    relative_exponents,
    what_to_look_for,
)
from nanfix.records.diagnosis import Phase, Place
from nanfix.testing import contract


def log_of_probability(y, p):
    return -ops.sum(y * ops.log(p), axis=-1)


def log_of_squares(y, p):
    return ops.square(ops.log(1.0 + y) - ops.log(1.0 + p))


def both_sides(y, p):
    return -ops.mean(y * ops.log(p) + (1.0 - y) * ops.log(1.0 - p), axis=-1)


def gaussian(y, p):
    mean, deviation = p[:, :1], p[:, 1:2]
    return ops.log(deviation) + 0.5 * ops.square((y[:, :1] - mean) / deviation)


def mixture(y, p):
    """Mixture density, whose logarithm is of 0 where every component is far away."""
    return -ops.log(ops.sum(ops.exp(-ops.square(100.0 * y - p)), axis=-1))


def root_of_difference(y, p):
    return ops.square(ops.sqrt(p) - ops.sqrt(y))


def impossible(y, p):
    return ops.log(-1.0 - ops.square(p - y))


def line_of(function, offset=1):
    return f"{Path(function.__code__.co_filename).name}:{function.__code__.co_firstlineno + offset}"


def setup_of(loss, last=None):
    x, _ = explosions.table(rows=16)
    y = np.eye(3, dtype="float32")[np.arange(16) % 3]
    return contract.run_of(explosions.mlp(loss=loss, outputs=3, last=last), 10 * x, y)


@pytest.mark.parametrize(
    ("loss", "operation", "line", "last", "endless"),
    [
        (log_of_probability, "Log", 1, None, True),
        (log_of_probability, "Log", 1, "softplus", True),
        (log_of_probability, "Log", 1, "softmax", False),
        (log_of_squares, "Log", 1, None, False),
        (explosions.poisson, "Log", 1, None, True),
        (gaussian, "Log", 2, None, True),
        (root_of_difference, "Sqrt", 1, None, False),
        (mixture, "Log", 2, None, False),
    ],
)
def test_loss_that_falls_for_ever_is_recognized(loss, operation, line, last, endless):
    assert (
        falls_without_end(Guard(operation, line_of(loss, line), None, 1e-7), setup_of(loss, last))
        is endless
    )


def angle(y, p):
    return ops.arccos(ops.sum(y * p, axis=-1))


@pytest.mark.parametrize("unit", [True, False])
def test_what_the_model_cannot_give_is_not_looked_at(unit):
    """Far from unit length the guarded angle is 0 or pi, whichever way the output goes."""
    x = 0.1 * explosions.table(rows=16)[0]
    y = np.random.default_rng(0).normal(size=(16, 3)).astype("float32")
    y /= np.linalg.norm(y, axis=1, keepdims=True)
    end = [layers.UnitNormalization()] if unit else []
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3), *end])
    model.compile("sgd", angle)
    before = model.get_weights()
    run = contract.run_of(model, x, y)
    assert falls_without_end(Guard("Acos", line_of(angle), None, 1e-7), run) is not unit
    for weight, value in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, value)


def test_loss_without_targets_is_not_judged():
    model = explosions.mlp()
    model.compile("sgd", loss=None)
    run = contract.run_of(model, explosions.table(rows=16)[0], None)
    assert falls_without_end(Guard("Log", "test_loss_probe.py:1", None, 1e-7), run) is False
    assert not relative_exponents(Place(Phase.LOSS, None, "Exp", "test_loss_probe.py:1"), run)


def test_loss_of_several_targets_is_not_judged():
    run = setup_of(explosions.poisson)
    several = contract.run_of(run.model, run.sample.inputs[0], [run.sample.targets[0]] * 2)
    assert falls_without_end(Guard("Log", "test_loss_probe.py:1", None, 1e-7), several) is False


def shares(x):
    e = ops.exp(x)
    return e / ops.sum(e, axis=-1, keepdims=True)


def over_the_rows(x):
    e = ops.exp(x)
    return e / ops.sum(e, axis=0, keepdims=True)


def sizes(x):
    return ops.exp(x) / 3.0


def contrast(y, p):
    e = ops.exp(p)
    return -ops.log(e[:, 0] / ops.sum(e, axis=-1))


def growth(y, p):
    return ops.mean(ops.exp(p) - y * p, axis=-1)


@pytest.mark.parametrize(
    ("activation", "relative"), [(shares, True), (over_the_rows, False), (sizes, False)]
)
def test_exponents_in_a_layer_of_which_only_differences_matter(activation, relative):
    x, _ = explosions.table(rows=16)
    model = keras.Sequential(
        [keras.Input((4,)), layers.Dense(8), layers.Dense(3, activation, name="last")]
    )
    model.compile("sgd", "mse")
    run = contract.run_of(model, 1000 * x, np.eye(3, dtype="float32")[np.arange(16) % 3])
    weights = model.get_weights()
    place = Place(Phase.FORWARD, "last", "Exp", line_of(activation))
    assert relative_exponents(place, run) is relative
    assert not relative_exponents(Place(Phase.FORWARD, "last", "Log", line_of(activation)), run)
    assert all(map(np.array_equal, weights, model.get_weights())) and "call" not in vars(
        model.layers[-1]
    )


@pytest.mark.parametrize(("loss", "relative"), [(contrast, True), (growth, False)])
def test_exponents_in_a_loss_of_which_only_differences_matter(loss, relative):
    run = setup_of(loss)
    assert relative_exponents(Place(Phase.LOSS, None, "Exp", line_of(loss)), run) is relative


class WithoutCall(keras.Model):
    """Computes an exponential in its training step."""

    def train_step(self, data):
        return {"loss": ops.mean(ops.exp(data[0]))}


def test_a_model_without_a_call_of_its_own_is_not_asked():
    model = WithoutCall()
    model.compile("sgd")
    run = contract.run_of(model, *explosions.table(rows=16))
    assert not relative_exponents(Place(Phase.FORWARD, None, "Exp", "test_loss_probe.py:1"), run)


@pytest.mark.parametrize(
    ("loss", "last", "words"),
    [
        (explosions.poisson, None, OF_OUTPUTS),
        (both_sides, None, OF_OUTPUTS),
        (impossible, None, OF_ROWS),
        ("mse", None, OF_ROWS),
    ],
)
def test_where_to_look_is_told_by_what_other_predictions_make_of_the_loss(loss, last, words):
    assert what_to_look_for(setup_of(loss, last)) == words


def critic(y, p):
    return -ops.mean(y * p, axis=-1)


@pytest.mark.parametrize(
    ("loss", "falls"),
    [(critic, True), (lambda y, p: ops.mean(p), True), ("mse", False), ("hinge", False)],
    ids=["a critic's", "a mean", "squares", "a hinge"],
)
def test_a_loss_that_falls_as_outputs_grow_is_told_by_its_outputs(loss, falls):
    model = keras.Sequential([keras.Input((4,)), layers.Dense(1)])
    model.compile("sgd", loss)
    x = np.random.default_rng(0).normal(size=(32, 4)).astype("float32")
    run = contract.run_of(model, x, np.sign(x[:, :1]))
    assert falls_far_out(run) is falls
