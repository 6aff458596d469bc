"""Layers and inputs keep their names whatever Keras has counted before, and are matched
as Keras matches them.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops

from nanfix.model.addresses import SINGLE, declared_inputs, input_names, walk


def small(name=None):
    return keras.Sequential([keras.Input((4,)), layers.Dense(3), layers.Dense(2, name=name)])


def nested():
    inputs = keras.Input((4,))
    hidden = layers.Dense(4)(small("out")(inputs))
    hidden = ops.log(1.0 + ops.square(hidden))
    return keras.Model(inputs, layers.Dense(1, name="head")(hidden))


class Blocks(keras.Model):
    def __init__(self):
        super().__init__()
        self.blocks = [layers.Dense(3), layers.Dense(3)]
        self.heads = {"a": layers.Dense(1, name="head"), "b": layers.Dense(1, name="head")}
        self.rnn = layers.Bidirectional(layers.LSTM(2))

    def call(self, inputs):
        return inputs


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        (small, ["dense[0]", "dense[1]"]),
        (lambda: small("dense_9"), ["dense[0]", "dense[1]"]),
        (lambda: small("last"), ["dense[0]", "last"]),
        (
            nested,
            [
                "sequential[0]",
                "sequential[0]/dense[0]",
                "sequential[0]/out",
                "dense[0]",
                "head",
                "square[0]",
                "add[0]",
                "log[0]",
            ],
        ),
        (
            Blocks,
            [
                *("dense[0]", "dense[1]", "head[0]", "head[1]", "bidirectional[0]"),
                *(
                    "bidirectional[0]/forward_lstm[0]",
                    "bidirectional[0]/forward_lstm[0]/lstm_cell[0]",
                ),
                *(
                    "bidirectional[0]/backward_lstm[0]",
                    "bidirectional[0]/backward_lstm[0]/lstm_cell[0]",
                ),
            ],
        ),
    ],
    ids=[
        "sequential",
        "a name as Keras gives them",
        "a name of the user's",
        "nested, with operations",
        "lists, dicts, wrappers",
    ],
)
def test_addresses_are_the_same_however_many_layers_were_made_before(build, expected):
    first, second = dict(walk(build())), dict(walk(build()))
    assert list(first) == list(second) and sorted(first) == sorted(expected)
    assert len({id(layer) for layer in first.values()}) == len(first)


def test_a_shared_layer_has_one_address():
    shared, inputs = layers.Dense(4), keras.Input((4,))
    model = keras.Model(inputs, layers.Add()([shared(inputs), shared(shared(inputs))]))
    assert [address for address, _ in walk(model)] == ["dense[0]", "add[0]"]


def two(struct):
    wide, deep = keras.Input((2,), name="wide"), keras.Input((3,), name="deep")
    both = layers.Concatenate()([wide, deep])
    return keras.Model(struct(wide, deep), layers.Dense(1)(both))


W, D = np.zeros((1, 2), "float32"), np.zeros((1, 3), "float32")


@pytest.mark.parametrize(
    ("struct", "given", "expected"),
    [
        (lambda w, d: [w, d], [W, D], ("wide", "deep")),
        (lambda w, d: [w, d], {"wide": W, "deep": D}, ("deep", "wide")),
        (lambda w, d: [w, d], {"wide": W, "more": W, "deep": D}, ("deep", None, "wide")),
        (lambda w, d: {"wide": w, "deep": d}, {"wide": W, "deep": D}, ("deep", "wide")),
        (lambda w, d: (w, {"deep": d}), (W, {"deep": D}), ("wide", "deep")),
    ],
    ids=["list", "list fed a dict", "keys too many", "dict", "nested"],
)
def test_inputs_are_those_that_keras_feeds(struct, given, expected):
    """What is fed in the place of each named input has to change the outputs of a model
    that ignores all others.
    """
    model = two(struct)
    assert input_names(model, given) == expected
    kernel = np.zeros((5, 1), "float32")
    kernel[:2] = 1.0  # of what goes into "wide" alone
    model.layers[-1].kernel.assign(kernel)
    named = zip(expected, keras.tree.flatten(given), strict=True)
    leaves = [np.full_like(leaf, 1.0 if name == "wide" else 100.0) for name, leaf in named]
    assert float(model(keras.tree.pack_sequence_as(given, leaves))[0, 0]) == 2.0


def test_inputs_without_a_name_are_counted():
    assert declared_inputs(small()) == [SINGLE] and input_names(small(), tf.zeros((1, 4))) == (
        SINGLE,
    )
    assert input_names(Blocks(), [W, {"a": D, "b": (D, W)}]) == ("input[0]", "a[0]", "b[0]", "b[1]")
    assert input_names(Blocks(), W) == (SINGLE,)
