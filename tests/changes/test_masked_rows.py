"""What stands in source in front of a mean over masked steps."""

from types import SimpleNamespace

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from nanfix.changes.guards import Guard, Guards
from nanfix.changes.masked_rows import MEAN_OF_NOTHING
from nanfix.changes.plan import Plan
from nanfix.records.source_changes import LayerChange, NoPlace
from nanfix.records.source_places import Made, Span


def test_a_row_that_is_masked_wholly_is_0_and_the_others_are_what_they_were():
    names = {"keras": keras}
    exec(MEAN_OF_NOTHING, names)
    keras.utils.set_random_seed(0)
    words = layers.Embedding(9, 3, mask_zero=True)
    mean = layers.GlobalAveragePooling1D()
    plain = keras.Sequential([words, mean])
    model = keras.Sequential([words, names["MeanOfNothing"](), mean])
    tokens = np.array([[1, 2, 0], [0, 0, 0], [3, 0, 0]])
    with tf.GradientTape() as tape:
        found = model(tokens)
        total = tf.reduce_sum(found)
    np.testing.assert_array_equal(found[1], np.zeros(3))
    np.testing.assert_array_equal(found[::2], plain(tokens)[::2])
    assert np.isfinite(tape.gradient(total, words.embeddings).values).all()
    assert np.isnan(plain(tokens)[1]).all()


def test_a_guard_in_a_layer_of_keras_is_a_layer_in_front_of_it_where_one_will_do():
    members = {"mean[0]": layers.GlobalAveragePooling1D(), "norm[0]": layers.UnitNormalization()}
    place = Span(file="train.py", line=3, column=0, end_line=3, end_column=9)
    made = Made(callee="GlobalAveragePooling1D", place=place)
    run = SimpleNamespace(members=members)
    call = SimpleNamespace(places=SimpleNamespace(of=lambda layer: made))
    guards = tuple(Guard("RealDiv", None, address, 0.0) for address in members)
    mean, norm = Guards(guards).in_source(run, Plan(), call)
    assert isinstance(mean, LayerChange) and mean.side == "before" and mean.target == made
    assert isinstance(norm, NoPlace) and "Keras' own code" in norm.reason
