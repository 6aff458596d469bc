"""Labels without a class, which TensorFlow refuses on a CPU and gives NaN for elsewhere."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import nanfix
from nanfix import Cause, Outcome
from nanfix.records.diagnosis import Onset

ARGUMENTS = {"batch_size": 16, "epochs": 2, "verbose": 0, "shuffle": False}


def table(label=7):
    """Return rows of which the 40th, in the third batch, has a label of no class."""
    x = np.random.default_rng(0).normal(size=(96, 4)).astype("float32")
    y = (x[:, 0] > 0).astype("int32") + (x[:, 1] > 0)
    y[40] = label
    return x, y


def classifier(**settings):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((4,)), layers.Dense(8, "relu"), layers.Dense(3)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.03), loss, jit_compile=False, **settings)
    return model


@pytest.mark.parametrize("settings", [{}, {"run_eagerly": True}], ids=str)
def test_label_that_tensorflow_refuses_is_diagnosed_and_repaired(settings):
    x, y = table()
    with pytest.raises(tf.errors.InvalidArgumentError):
        classifier(**settings).fit(x, y, **ARGUMENTS)
    model = classifier(**settings)
    report = nanfix.fit(model, x, y, **ARGUMENTS)
    assert report.outcome is Outcome.REPAIRED and report.diagnosis.cause is Cause.INVALID_LABEL
    assert report.diagnosis.onset == Onset(1, 3)
    assert [edit.strategy for edit in report.fix.edits] == ["drop-invalid-labels"]
    assert np.isfinite(report.history["loss"]).all() and len(report.history["loss"]) == 2


def test_of_a_stream_it_is_known_from_what_tensorflow_says():
    data = tf.data.Dataset.from_tensor_slices(table()).batch(16)
    report = nanfix.fit(classifier(), data, epochs=2, verbose=0, throw=False)
    assert report.diagnosis.cause is Cause.INVALID_LABEL and "label value of 7" in str(
        report.diagnosis
    )
    assert report.outcome is Outcome.REPAIRED


def test_other_errors_of_tensorflow_stay_the_users():
    class Asserting(keras.layers.Layer):
        def call(self, x):
            with tf.control_dependencies([tf.debugging.assert_less(x, -1e9, "never mind")]):
                return tf.identity(x)

    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((4,)), layers.Dense(8), Asserting()])
    model.compile("sgd", loss=lambda y, z: tf.reduce_sum(z))
    with pytest.raises(tf.errors.InvalidArgumentError, match="never mind"):
        nanfix.fit(model, *table(0), **ARGUMENTS)
