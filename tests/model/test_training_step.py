"""Steps of every form: a healthy run stays what it was, and the state before the first
step is known.
"""

import explosions
import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import nanfix
from nanfix import Outcome
from nanfix.data.training_data import TrainingData
from nanfix.model.snapshot import restore, state_variables
from nanfix.recorder.watch import watch

ARGUMENTS = {"batch_size": 16, "epochs": 2, "verbose": 0}


class Eager(keras.Model):
    """Why people run eagerly: numpy and Python's control flow in the call."""

    def __init__(self):
        super().__init__()
        self.hidden, self.last, self.drop = (
            layers.Dense(4, "relu"),
            layers.Dense(1),
            layers.Dropout(0.2),
        )
        self.calls = 0

    def call(self, x, training=False):
        self.calls += 1
        x = self.drop(self.hidden(x), training=training)
        return self.last(x) if len(x.numpy()) else x


class OwnFunction(keras.Model):
    """Draws its batches by itself, and has no variables before it meets them."""

    def __init__(self):
        super().__init__()
        self.body = keras.Sequential(
            [layers.Dense(8, "relu"), layers.BatchNormalization(), layers.Dense(1)]
        )

    def call(self, x, training=False):
        return self.body(x, training=training)

    def make_train_function(self, force=False):
        if self.train_function is None or force:
            step = tf.function(self.train_step)
            self.train_function = lambda iterator: step(next(iterator))
        return self.train_function


def compiled(model, optimizer, **settings):
    keras.utils.set_random_seed(1)
    model.compile(optimizer, "mse", **settings)
    return model


def made(kind, optimizer):
    keras.utils.set_random_seed(0)
    return compiled(kind(), optimizer, run_eagerly=kind is Eager)


def values(variables):
    return [np.asarray(variable).copy() for variable in variables]


@pytest.mark.parametrize("kind", [Eager, OwnFunction])
def test_healthy_run_is_untouched(kind):
    plain, watched = (made(kind, keras.optimizers.Adam(0.01)) for _ in range(2))
    keras.utils.set_random_seed(2)
    history = plain.fit(*explosions.table(), **ARGUMENTS).history
    keras.utils.set_random_seed(2)
    report = nanfix.fit(watched, *explosions.table(), **ARGUMENTS)
    assert report.outcome is Outcome.HEALTHY and report.history == history
    for one, other in zip(values(plain.variables), values(watched.variables), strict=True):
        np.testing.assert_array_equal(one, other)
    assert kind is OwnFunction or plain.calls == watched.calls


@pytest.mark.parametrize("kind", [Eager, OwnFunction])
def test_state_before_the_first_step_is_known_though_that_makes_the_variables(kind):
    """The rate ruins the weights in the very first step."""
    model = made(kind, keras.optimizers.SGD(1e38, momentum=0.9))
    keras.utils.set_random_seed(2)
    watched = watch(model, TrainingData.of(*explosions.table(), {**ARGUMENTS, "shuffle": False}))
    assert watched.incident is not None
    restore(watched.recorder.recording().initial)
    fresh = made(kind, "sgd")
    keras.utils.set_random_seed(2)
    fresh(explosions.table()[0][:16])
    for one, other in zip(
        values(model.trainable_variables), values(fresh.trainable_variables), strict=True
    ):
        np.testing.assert_array_equal(one, other)
    slots = values(model.optimizer.variables)[2:]
    assert slots and not any(value.any() for value in slots)
    assert len(state_variables(model)) >= len(model.variables) + len(model.optimizer.variables)


@pytest.mark.filterwarnings("ignore:Your input ran out of data")
def test_batches_of_unknown_rank_train_eagerly():
    def batches():
        x, y = explosions.table(rows=32)
        yield from ((x[start : start + 8], y[start : start + 8]) for start in range(0, 32, 8))

    unknown = (tf.TensorSpec(None, "float32"), tf.TensorSpec(None, "float32"))
    data = tf.data.Dataset.from_generator(batches, output_signature=unknown)
    model = made(Eager, "sgd")
    assert nanfix.fit(model, data, epochs=1, verbose=0).outcome is Outcome.HEALTHY


# A training that runs eagerly is repaired in tests/legal.
@pytest.mark.parametrize("kind", [pytest.param(Eager, marks=pytest.mark.soak), OwnFunction])
def test_run_that_explodes_later_is_repaired(kind):
    rates = keras.optimizers.schedules.PiecewiseConstantDecay([11], [0.01, 1e4])
    model = made(kind, keras.optimizers.SGD(rates, momentum=0.9))
    x, y = explosions.table()
    report = nanfix.fit(
        model, x, y, strategies=["lower-learning-rate"], throw=False, **{**ARGUMENTS, "epochs": 3}
    )
    assert report.outcome is Outcome.REPAIRED, str(report)
    assert np.isfinite(
        model.predict(x, verbose=0) if kind is OwnFunction else np.asarray(model(x))
    ).all()
    assert len(report.history["loss"]) == 3 and np.isfinite(report.history["loss"]).all()
