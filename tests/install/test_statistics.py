"""Statistics that are still those they began with: what a short training is judged by."""

import keras
import numpy as np
import pytest

import nanfix
from nanfix.install._statistics import lagging, settled
from nanfix.model.snapshot import take


def normalizing(momentum, optimizer="sgd"):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(16),
            keras.layers.BatchNormalization(momentum=momentum),
            keras.layers.Activation("relu"),
            keras.layers.Dense(1),
        ]
    )
    model.compile(optimizer, "mse")
    return model


def data(rows=256):
    x = np.random.default_rng(0).normal(3.0, 20.0, size=(rows, 4)).astype("float32")
    return x, (x[:, :1] / 20.0).astype("float32")


def test_statistics_are_those_of_the_inputs_inside_and_as_they_were_behind():
    model, (x, y) = normalizing(0.999), data()
    model.fit(x, y, verbose=0)
    before, layer = take(model), model.layers[1]
    with settled(model, lambda: [x]):
        hidden = model.layers[0](x)
        np.testing.assert_allclose(layer.moving_mean, np.mean(hidden, axis=0), rtol=1e-3)
        np.testing.assert_allclose(layer.moving_variance, np.var(hidden, axis=0), rtol=1e-3)
    for variable, tensor in zip(before.variables, before.tensors, strict=True):
        np.testing.assert_array_equal(variable, tensor)


@pytest.mark.parametrize(("momentum", "lags"), [(0.999, True), (0.5, False), (0.0, False)])
def test_only_statistics_that_hold_what_they_began_with_lag(momentum, lags):
    model = normalizing(momentum)
    model.fit(*data(), verbose=0)
    assert bool(lagging(model)) is lags


def test_a_training_that_learns_in_spite_of_slow_statistics_is_repaired():
    model, (x, y) = normalizing(0.999, keras.optimizers.SGD(1e7, momentum=0.9)), data(512)
    arguments = {"epochs": 6, "batch_size": 16, "verbose": 0, "throw": False}
    report = nanfix.fit(model, x, y, strategies=["swap-optimizer"], **arguments)
    assert report.outcome is nanfix.Outcome.REPAIRED, str(report)


def test_steps_are_counted_where_gradients_are_accumulated():
    model = keras.Sequential([keras.Input((3,)), keras.layers.BatchNormalization(momentum=0.5)])
    model.compile(keras.optimizers.SGD(gradient_accumulation_steps=2), "mse")
    x = np.ones((4, 3), "float32")
    model.fit(x, x, epochs=2, verbose=0)
    assert len(lagging(model)) == 1
    model.fit(x, x, epochs=80, verbose=0)
    assert lagging(model) == []
