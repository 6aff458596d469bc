"""Biases with which a last layer begins at the best constant prediction."""

import keras
import numpy as np
import pytest
from keras import layers

from nanfix.data.last_biases import fitting_biases
from nanfix.testing import contract

ROWS = 40
RNG = np.random.default_rng(0)
X = RNG.normal(size=(ROWS, 3)).astype("float32")
UNEVEN = (np.arange(ROWS) % 10 == 0).astype("float32")[:, None]  # 1 to 9
EVEN = (np.arange(ROWS) % 2).astype("float32")[:, None]
FAR = np.stack([RNG.normal(10, 1, ROWS), RNG.normal(-5, 1, ROWS)], axis=1).astype("float32")
CLASSES = np.array([0] * 32 + [1] * 4 + [2] * 4)
LOGITS = keras.losses.BinaryCrossentropy(from_logits=True)
MEAN, ODDS = tuple(FAR.mean(axis=0)), float(np.log(1 / 9))
SHARES = np.log([0.8, 0.1, 0.1]) - np.mean(np.log([0.8, 0.1, 0.1]))

CASES = {
    "the mean of each column": (2, None, "mse", FAR, MEAN),
    "the median": (2, None, "mae", FAR, tuple(np.median(FAR, axis=0))),
    "targets about 0": (2, None, "mse", FAR - FAR.mean(axis=0), None),
    "a last layer that is not linear": (2, "softplus", "mse", FAR, None),
    "log-odds of a probability": (1, "sigmoid", "binary_crossentropy", UNEVEN, (ODDS,)),
    "log-odds as a logit": (1, None, LOGITS, UNEVEN, (ODDS,)),
    "even classes": (1, "sigmoid", "binary_crossentropy", EVEN, None),
    "a softmax": (3, "softmax", "sparse_categorical_crossentropy", CLASSES, SHARES),
    "a loss of the user's own": (1, None, lambda t, p: keras.ops.abs(t - p), FAR[:, :1], None),
}


def run_of(units, activation, loss, y, **options):
    model = keras.Sequential([keras.Input((3,)), layers.Dense(units, activation, **options)])
    model.compile("sgd", loss)
    return contract.run_of(model, X, y)


@pytest.mark.parametrize("name", CASES)
def test_a_last_layer_begins_at_the_best_constant(name):
    units, activation, loss, y, expected = CASES[name]
    found = fitting_biases(run_of(units, activation, loss, y))
    if expected is None:
        assert found == {}
    else:
        assert found == {"dense[0]": pytest.approx(expected, rel=1e-4)}


def test_such_a_bias_is_where_training_would_bring_a_model_without_inputs():
    units, activation, loss, y, _ = CASES["a softmax"]
    run = run_of(units, activation, loss, y, kernel_initializer="zeros")
    ((address, biases),) = fitting_biases(run).items()
    run.members[address].bias.assign(biases)
    before = run.model.evaluate(X, y, verbose=0)
    run.model.optimizer.learning_rate = 0.1
    run.model.fit(np.zeros_like(X), y, epochs=20, batch_size=ROWS, verbose=0)
    assert run.model.evaluate(np.zeros_like(X), y, verbose=0) == pytest.approx(before, rel=1e-4)


def test_each_output_has_its_own_and_a_layer_without_a_bias_none():
    inputs = keras.Input((3,))
    price = layers.Dense(2, name="price")(inputs)
    sold = layers.Dense(1, "sigmoid", name="sold")(inputs)
    bare = layers.Dense(2, use_bias=False, name="bare")(inputs)
    model = keras.Model(inputs, {"price": price, "sold": sold, "bare": bare})
    model.compile("sgd", {"price": "mse", "sold": "binary_crossentropy", "bare": "mse"})
    run = contract.run_of(model, X, {"price": FAR, "sold": UNEVEN, "bare": FAR})
    found = fitting_biases(run)
    assert found == {
        "price": pytest.approx(MEAN, rel=1e-4),
        "sold": pytest.approx((ODDS,), rel=1e-4),
    }
