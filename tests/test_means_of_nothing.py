"""A mean over nothing, as of targets that are missing, in a loss of the user's own."""

import explosions
import keras
import numpy as np
import tensorflow as tf
from keras import layers

import nanfix
from nanfix.records.cause import Cause


def of_the_measured(y, p):
    """The squared error where a target is known; NaN in a batch where none is."""
    known = tf.logical_not(tf.math.is_nan(y))
    return tf.reduce_mean(tf.square(tf.boolean_mask(y, known) - tf.boolean_mask(p, known)))


def rarely_measured():
    x, y = explosions.table(rows=640)
    rare = np.where(np.arange(640)[:, None] % 160 < 50, y, np.nan).astype("float32")
    inputs = keras.Input((x.shape[1],))
    hidden = layers.Dense(8, "relu")(inputs)
    heads = [layers.Dense(1, name=name)(hidden) for name in ("often", "rarely")]
    model = keras.Model(inputs, heads)
    model.compile(keras.optimizers.Adam(0.01), [of_the_measured, of_the_measured])
    return model, x, [y, rare], {**explosions.ARGUMENTS, "shuffle": False, "epochs": 6}


def test_a_mean_over_no_target_is_zero_in_every_output_that_takes_it():
    model, x, y, arguments = rarely_measured()
    report = nanfix.fit(model, x, y, **arguments)
    (edit,) = report.fix.edits
    assert report.outcome is nanfix.Outcome.REPAIRED and edit.params["operation"] == "Mean"
    assert len(report.trials) <= 4 and report.diagnosis.cause is Cause.EMPTY_REDUCTION
    assert "divide_no_nan(sum(x), size(x))" in str(report.fix)
