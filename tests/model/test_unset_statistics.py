"""NaN that a layer of the user's own keeps for what it has not seen yet."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import nanfix
from nanfix.model.snapshot import nonfinite_variables, take, take_as_it_is
from nanfix.records.cause import Cause
from nanfix.report.report import Outcome

PLAIN = {"epochs": 3, "batch_size": 32, "verbose": 0}


@keras.saving.register_keras_serializable("unset")
class LastSeen(layers.Layer):
    """Keeps the largest value of each column, and NaN of one that has only been 0."""

    def build(self, shape):
        unset = keras.initializers.Constant(float("nan"))
        self.last = self.add_weight((shape[-1],), unset, trainable=False, name="last")

    def call(self, inputs, training=False):
        if training:
            most = ops.max(ops.abs(inputs), 0)
            self.last.assign(ops.where(most > 0, most, self.last))
        return inputs


@keras.saving.register_keras_serializable("unset")
class Centred(layers.Layer):
    """Takes the mean of a batch away, and in inference a running one that begins with NaN."""

    def build(self, shape):
        unset = keras.initializers.Constant(float("nan"))
        self.mean = self.add_weight((shape[-1],), unset, trainable=False, name="mean")

    def call(self, inputs, training=False):
        if not training:
            return inputs - self.mean
        mean = ops.mean(inputs, 0)
        self.mean.assign(0.9 * self.mean + 0.1 * mean)
        return inputs - mean


@keras.saving.register_keras_serializable("unset")
class RunningLog(layers.Layer):
    """Keeps a running mean of logarithms that one column has none of."""

    def build(self, shape):
        self.mean = self.add_weight((shape[-1],), "zeros", trainable=False, name="mean")

    def call(self, inputs, training=False):
        if training:
            self.mean.assign(0.9 * self.mean + 0.1 * ops.mean(ops.log(inputs), 0))
        return inputs


def model_of(layer):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((4,)), layer, layers.Dense(1)])
    model.compile(keras.optimizers.Adam(0.05), "mse")
    return model


def rows():
    x = np.random.default_rng(0).normal(size=(256, 4)).astype("float32")
    x[:, 3] = 0.0
    return x, 2.0 * x[:, :1]


@pytest.mark.parametrize("held", [{}, {"validation_split": 0.25}])
def test_what_is_not_seen_yet_may_be_nan(held):
    plain, x, y = model_of(LastSeen()), *rows()
    history = plain.fit(x, y, **PLAIN, **held)
    watched = model_of(LastSeen())
    report = nanfix.fit(watched, x, y, **PLAIN, **held)
    assert report.outcome is Outcome.HEALTHY
    assert report.history == history.history
    assert np.isnan(watched.layers[0].last[3])
    for mine, theirs in zip(watched.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_one_that_inference_reads_is_the_cause_and_is_measured():
    x, y = rows()
    model = model_of(Centred())
    report = nanfix.fit(model, x, y, **{**PLAIN, "epochs": 8})
    assert report.outcome is Outcome.REPAIRED
    assert report.diagnosis.cause is Cause.NONFINITE_START
    assert "trained again, from the beginning" in str(report)
    error = np.mean((model.predict(x, verbose=0) - y) ** 2)
    assert error < 0.5 * np.var(y)


def test_nan_that_training_brings_is_a_fault():
    x, y = rows()
    model = model_of(RunningLog())
    assert take_as_it_is(model, initial=True).weight_norm > 0
    model.fit(x, y, epochs=1, verbose=0)
    assert take(model) is None
    assert nonfinite_variables(model) == [model.layers[0].mean.path]
