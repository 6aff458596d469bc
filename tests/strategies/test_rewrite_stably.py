"""rewrite-stably: a formula that over- or underflows is computed in its stable form."""

import explosions
import keras
import numpy as np
import pytest
from keras import ops

import nanfix
from nanfix import Outcome
from nanfix.changes.guards import Guard, Guards
from nanfix.changes.plan import Plan
from nanfix.records.cause import Cause
from nanfix.records.diagnosis import Phase, Place
from nanfix.records.unsafe_operations import (
    DIFFERENCES,
    LOG_OF_EXPONENTIALS,
    SHARES_OF_EXPONENTIALS,
)
from nanfix.remedies.registry import get
from nanfix.testing import contract

NAME = "rewrite-stably"


def of_mixture(y, p):
    """The likelihood of two normal distributions; far from both it underflows."""
    means, deviations = p[:, :2], ops.softplus(p[:, 2:4]) + 0.05
    shares = ops.softmax(p[:, 4:])
    density = ops.exp(-0.5 * ops.square((y - means) / deviations)) / deviations
    return -ops.log(ops.sum(shares * density, axis=-1))


def of_scores(y, p):
    """A crossentropy by hand, of scores that are great from the start."""
    scores = 200.0 * p
    picked = ops.sum(ops.one_hot(ops.cast(y[:, 0], "int32"), 3) * scores, axis=-1)
    return ops.log(ops.sum(ops.exp(scores), axis=1)) - picked


def of_shares(y, p):
    """A divergence by hand: 0 * log(0) of every class that a row does not have."""
    shares = ops.softmax(p)
    return ops.sum(y * ops.log(y / shares), axis=-1)


def trained(loss, units, targets):
    keras.utils.set_random_seed(0)
    x = np.random.default_rng(0).normal(size=(160, 4)).astype("float32")
    model = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(16, "tanh"), keras.layers.Dense(units)]
    )
    model.compile(keras.optimizers.Adam(0.01), loss)
    report = nanfix.fit(model, x, targets(x), epochs=8, batch_size=16, verbose=0)
    return report


@pytest.mark.parametrize(
    ("loss", "units", "targets"),
    [
        (of_mixture, 6, lambda x: 30.0 + 8.0 * np.sign(x[:, :1]) + x[:, 1:2]),
        pytest.param(
            of_shares,
            2,
            lambda x: np.concatenate([x[:, :1] > 0, x[:, :1] <= 0], axis=1),
            marks=pytest.mark.soak,
        ),
        (of_scores, 3, lambda x: (x[:, :1] > 0) + (x[:, 1:2] > 0.5)),
    ],
)
def test_the_stable_form_is_preferred_to_a_guard_that_caps_the_loss(loss, units, targets):
    report = trained(loss, units, lambda x: targets(x).astype("float32"))
    assert report.outcome is Outcome.REPAIRED
    assert NAME in [edit.strategy for edit in report.fix.edits]
    assert "as a logsumexp" in str(report.fix)
    assert report.history["loss"][-1] < report.history["loss"][0]


class Kernels(keras.layers.Layer):
    """A mean of values, weighted by kernels: far from all centers each of them is 0."""

    def build(self, shape):
        self.centers = self.add_weight(shape=(8, shape[-1]), initializer="random_normal")
        self.values = self.add_weight(shape=(8, 1), initializer="zeros")

    def call(self, x):
        distances = ops.sum(ops.square(x[:, None] - self.centers), axis=-1)
        weights = ops.exp(-100.0 * distances)
        weights = weights / ops.sum(weights, axis=-1, keepdims=True)
        return ops.matmul(weights, self.values)


def test_kernels_that_have_all_come_to_0_are_told_and_made_a_softmax():
    keras.utils.set_random_seed(0)
    x = np.random.default_rng(0).normal(size=(160, 2)).astype("float32")
    model = keras.Sequential([keras.Input((2,)), Kernels()])
    model.compile(keras.optimizers.Adam(0.05), "mse")
    report = nanfix.fit(model, x, x[:, :1] ** 2, epochs=8, batch_size=16, verbose=0)
    assert report.outcome is Outcome.REPAIRED
    assert report.diagnosis.place.formula == SHARES_OF_EXPONENTIALS
    assert [edit.strategy for edit in report.fix.edits] == [NAME]
    assert "of their exponents, as a softmax" in str(report.fix)
    assert "or compute the quotient as ops.softmax(x)" in str(report.diagnosis)


class Attention(keras.layers.Layer):
    """A mean over time, by scores whose exponentials overflow; a mask may leave no time at all."""

    def __init__(self, masked):
        super().__init__()
        self.score, self.masked = keras.layers.Dense(1), masked

    def call(self, x):
        weights = ops.exp(50.0 * self.score(x))
        if self.masked:
            weights = weights * ops.cast(x[..., 1:2] > 0.0, weights.dtype)
        return ops.sum(weights / ops.sum(weights, axis=1, keepdims=True) * x, axis=1)


class Standardization(keras.layers.Layer):
    """Each row less its mean and by its deviation, of a mean 3000 times as large."""

    def call(self, x):
        mean = ops.mean(x, axis=-1, keepdims=True)
        variance = ops.mean(ops.square(x), axis=-1, keepdims=True) - ops.square(mean)
        return (x - mean) / ops.sqrt(variance)


@pytest.mark.parametrize(
    ("layer", "shape", "formula"),
    [
        (lambda: Attention(masked=False), (5, 3), SHARES_OF_EXPONENTIALS),
        pytest.param(
            lambda: Attention(masked=True), (5, 3), SHARES_OF_EXPONENTIALS, marks=pytest.mark.soak
        ),
        (Standardization, (6,), DIFFERENCES),
    ],
    ids=["attention", "masked attention", "standardization"],
)
def test_a_layer_by_hand_is_computed_in_its_stable_form(layer, shape, formula):
    keras.utils.set_random_seed(0)
    x = np.random.default_rng(0).normal(size=(200, *shape)).astype("float32")
    y = x.max(axis=1)[:, :1] if len(shape) == 2 else x[:, :1] - x[:, 1:2]
    x = x + 3000.0 if formula == DIFFERENCES else x
    model = keras.Sequential([keras.Input(shape), layer(), keras.layers.Dense(1)])
    model.compile(keras.optimizers.Adam(0.03), "mse")
    report = nanfix.fit(model, x, y, epochs=12, batch_size=20, verbose=0)
    assert report.outcome is Outcome.REPAIRED, str(report)
    assert report.diagnosis.place.formula == formula
    assert [edit.strategy for edit in report.fix.edits] == [NAME]
    assert report.history["loss"][-1] < 0.6 * report.history["loss"][0]


def test_a_recursion_by_products_of_matrices_is_computed_of_logarithms():
    model, x, y, arguments = explosions.forward_recursion()
    budget = nanfix.Budget(trials=2)
    report = nanfix.fit(model, x, y, strategies=[NAME], budget=budget, **arguments)
    assert report.outcome is Outcome.REPAIRED, str(report)
    assert "numbers that this formula makes on the initial weights already" in str(report)
    assert np.mean(np.argmax(model.predict(x, verbose=0), axis=-1) == y) > 0.8


def test_it_is_for_formulas_with_a_stable_form_alone():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    run = contract.run_of(model, np.zeros((4, 4), "float32"), np.zeros((4, 1), "float32"))
    for operation, formula, applies in (
        ("Exp", None, True),
        ("Log", None, True),
        ("BesselI0", None, True),
        ("MatrixDeterminant", None, True),
        ("RealDiv", SHARES_OF_EXPONENTIALS, True),
        ("Sqrt", DIFFERENCES, True),
        ("RealDiv", None, False),
        ("Sqrt", None, False),
    ):
        place = Place(Phase.LOSS, None, operation, "loss.py:3", formula=formula)
        assert (
            contract.applies(get(NAME), contract.diagnosis(Cause.LOSS_DOMAIN, place=place), run)
            is applies
        )
    plan = get(NAME).apply(run, Plan(), source="loss.py:3", layer=None)
    guard = Guard(LOG_OF_EXPONENTIALS, "loss.py:3", None, 0.0)
    assert plan.of(Guards) == Guards((guard,))
