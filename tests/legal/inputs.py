"""Inputs in every structure, fed in every way that Keras matches them; several outputs."""

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

from legal.training import (
    ARGUMENTS,
    BATCH,
    ROWS,
    STREAMED,
    compiled,
    legal,
    mlp,
    sgd,
    table,
)

registered = keras.saving.register_keras_serializable("legal")


def _two_towers(structure):
    """Return a model of inputs `wide` (4) and `deep` (3), which `structure` puts into
    what keras.Model takes.
    """
    wide, deep = keras.Input((4,), name="wide"), keras.Input((3,), name="deep")
    both = layers.Concatenate()([wide, layers.Dense(6, "tanh")(deep)])
    return keras.Model(structure(wide, deep), layers.Dense(1)(layers.Dense(6, "tanh")(both)))


def _wide_and_deep():
    x, y = table(features=7)
    return 3.0 + x[:, :4], 0.1 * x[:, 4:], y


@legal(ends="REPAIRED")
def list_inputs_fed_a_dict(explosive):
    wide, deep, y = _wide_and_deep()
    model = compiled(_two_towers(lambda wide, deep: [wide, deep]), explosive)
    return model, {"wide": wide, "deep": deep}, y, dict(ARGUMENTS)


@legal(ends="REPAIRED")
def list_inputs_fed_a_tuple(explosive):
    wide, deep, y = _wide_and_deep()
    return (
        compiled(_two_towers(lambda wide, deep: [wide, deep]), explosive),
        (wide, deep),
        y,
        dict(ARGUMENTS),
    )


@legal(ends="REPAIRED")
def dict_inputs_fed_a_dict(explosive):
    wide, deep, y = _wide_and_deep()
    model = compiled(_two_towers(lambda wide, deep: {"wide": wide, "deep": deep}), explosive)
    return model, {"deep": deep, "wide": wide}, y, dict(ARGUMENTS)


@legal(ends="REPAIRED", quick=True)
def list_inputs_with_extra_keys(explosive):
    wide, deep, y = _wide_and_deep()
    model = compiled(_two_towers(lambda wide, deep: [wide, deep]), explosive)
    return model, {"another": wide[:, :2], "deep": deep, "wide": wide}, y, dict(ARGUMENTS)


@legal(ends="REPAIRED")
def one_input_fed_a_dict(explosive):
    inputs = keras.Input((4,), name="table")
    x, y = table()
    model = compiled(
        keras.Model(inputs, layers.Dense(1)(layers.Dense(6, "tanh")(inputs))), explosive
    )
    return model, {"table": x, "another": x[:, :1]}, y, dict(ARGUMENTS)


@legal()
def nested_inputs(explosive):
    wide, deep, y = _wide_and_deep()
    model = compiled(
        _two_towers(lambda wide, deep: {"group": [wide], "rest": {"deep": deep}}), explosive
    )
    return model, {"group": [wide], "rest": {"deep": deep}}, y, dict(ARGUMENTS)


@registered
class MayLack(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = layers.Dense(6, "tanh")

    def call(self, inputs, extra=None):
        hidden = self.dense(inputs)
        return hidden if extra is None else hidden + ops.sum(extra, axis=-1, keepdims=True)


@legal(ends="REPAIRED", quick=True)
def optional_input(explosive):
    x = keras.Input((4,), name="x")
    extra = keras.Input((2,), name="extra", optional=True)
    model = keras.Model({"x": x, "extra": extra}, layers.Dense(1)(MayLack()(x, extra)))
    data, y = table()
    return compiled(model, explosive), {"x": data, "extra": None}, y, dict(ARGUMENTS)


@registered
class TakesADict(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.hidden, self.last = layers.Dense(6, "tanh"), layers.Dense(1)

    def call(self, inputs):
        return self.last(self.hidden(ops.concatenate([inputs["wide"], inputs["deep"]], axis=-1)))


@legal(ends="REPAIRED")
def subclass_with_extra_keys(explosive):
    wide, deep, y = _wide_and_deep()
    return (
        compiled(TakesADict(), explosive),
        {"another": deep, "wide": wide, "deep": deep},
        y,
        dict(ARGUMENTS),
    )


@legal(ends="REPAIRED")
def subclass_fed_a_dict(explosive):
    wide, deep, y = _wide_and_deep()
    stream = tf.data.Dataset.from_tensor_slices(({"deep": deep, "wide": wide}, y)).batch(BATCH)
    return compiled(TakesADict(), explosive), stream, None, dict(STREAMED)


@legal(ends="REPAIRED", quick=True)
def two_inputs_through_one_layer(explosive):
    left, right = keras.Input((4,), name="left"), keras.Input((4,), name="right")
    tower = layers.Dense(6, "tanh")
    model = keras.Model(
        [left, right], layers.Dense(1)(layers.Subtract()([tower(left), tower(right)]))
    )
    x, y = table()
    return compiled(model, explosive), [x, 5.0 + 0.1 * x[::-1]], y, dict(ARGUMENTS)


@legal()
def shared_embedding(explosive):
    query, answer = (
        keras.Input((3,), name="query", dtype="int32"),
        keras.Input((5,), name="answer", dtype="int32"),
    )
    words, pool = layers.Embedding(10, 4), layers.GlobalAveragePooling1D()
    both = layers.Concatenate()([pool(words(query)), pool(words(answer))])
    model = keras.Model([query, answer], layers.Dense(1)(layers.Dense(6, "tanh")(both)))
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 10, (ROWS, 3)), rng.integers(0, 10, (ROWS, 5))
    return (
        compiled(model, explosive),
        list(ids),
        (ids[0][:, :1] / 5.0 - 1.0).astype("float32"),
        dict(ARGUMENTS),
    )


@legal()
def two_outputs(explosive):
    inputs = keras.Input((4,))
    hidden = layers.Dense(6, "tanh")(inputs)
    outputs = {
        "price": layers.Dense(1, name="price")(hidden),
        "sold": layers.Dense(1, "sigmoid", name="sold")(hidden),
    }
    model = keras.Model(inputs, outputs)
    model.compile(
        sgd(explosive),
        {"price": "mse", "sold": "binary_crossentropy"},
        loss_weights={"price": 1.0, "sold": 0.5},
        metrics={"price": ["mae"], "sold": ["accuracy"]},
    )
    x, y = table()
    return (
        model,
        x,
        {"price": y, "sold": (y > 0).astype("float32")},
        {**ARGUMENTS, "validation_split": 0.2},
    )


@legal()
def integer_inputs(explosive):
    x, y = table()
    return compiled(mlp(), explosive), (10 * x).astype("int64"), y, dict(ARGUMENTS)


@legal(quick=True)
def strings_through_lookup(explosive):
    words = np.array(["red", "green", "blue", "unknown"])[np.arange(ROWS) % 4][:, None]
    lookup = layers.StringLookup(output_mode="one_hot")
    lookup.adapt(["red", "green", "blue"])
    inputs = {
        "color": keras.Input((1,), name="color", dtype="string"),
        "size": keras.Input((1,), name="size"),
    }
    both = layers.Concatenate()([lookup(inputs["color"]), inputs["size"]])
    model = keras.Model(inputs, layers.Dense(1)(layers.Dense(6, "tanh")(both)))
    x, y = table()
    return (
        compiled(model, explosive),
        {"color": tf.constant(words), "size": x[:, :1]},
        y,
        dict(ARGUMENTS),
    )


@legal()
def text_vectorization(explosive):
    texts = tf.constant([f"w{i % 3} w{i % 5} w{i % 7}" for i in range(ROWS)])
    vectorize = layers.TextVectorization(max_tokens=20, output_sequence_length=4)
    vectorize.adapt(texts)
    stack = [vectorize, layers.Embedding(20, 4), layers.GlobalAveragePooling1D(), layers.Dense(1)]
    model = keras.Sequential([keras.Input((), dtype="string"), *stack])
    y = (np.arange(ROWS) % 3 - 1.0).astype("float32")[:, None]
    return compiled(model, explosive), texts, y, dict(ARGUMENTS)
