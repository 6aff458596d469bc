"""Data in memory, in every form that Keras takes: frames, ragged and sparse ones, weights."""

import keras
import numpy as np
import pandas as pd
import scipy.sparse
import tensorflow as tf
from keras import layers

from legal.training import (
    ARGUMENTS,
    BATCH,
    ROWS,
    compiled,
    legal,
    mlp,
    table,
    with_a_hole,
)


@legal(ends="REPAIRED", quick=True)
def frame_and_series(explosive):
    x, y = table()
    return (
        compiled(mlp(), explosive),
        pd.DataFrame(x, columns=list("abcd")),
        pd.Series(y[:, 0], name="y"),
        dict(ARGUMENTS),
    )


@legal(ends="REPAIRED", quick=True)
def frame_with_a_hole(explosive):
    x, y = table()
    frame = pd.DataFrame(with_a_hole(x, explosive), columns=list("abcd"))
    return compiled(mlp(), False), frame, pd.DataFrame({"y": y[:, 0]}), dict(ARGUMENTS)


@legal()
def mixed_frame(explosive):
    """Bool columns beside numbers: the frame's array is one of objects."""
    x, y = table()
    frame = pd.get_dummies(
        pd.DataFrame(
            {
                "size": x[:, 0].astype("float64"),
                "rooms": np.arange(ROWS) % 5,
                "kind": np.array(list("xyz"))[np.arange(ROWS) % 3],
            }
        )
    )
    return compiled(mlp(features=5), explosive), frame, pd.Series(y[:, 0]), dict(ARGUMENTS)


@legal()
def frame_of_bools(explosive):
    x, y = table()
    return compiled(mlp(), explosive), pd.DataFrame(x > 0), pd.Series(y[:, 0] > 0), dict(ARGUMENTS)


@legal(
    ends="REPAIRED",
)
def columns_as_inputs(explosive):
    """A dict of Series, one a column, one of them the codes of a categorical."""
    x, y = table()
    kinds = pd.Series(pd.Categorical(np.array(list("xyz"))[np.arange(ROWS) % 3])).cat.codes
    inputs = {
        "size": keras.Input((1,), name="size"),
        "kind": keras.Input((1,), name="kind", dtype="int32"),
    }
    both = layers.Concatenate()(
        [inputs["size"], layers.Flatten()(layers.Embedding(3, 2)(inputs["kind"]))]
    )
    model = keras.Model(inputs, layers.Dense(1)(layers.Dense(6, "tanh")(both)))
    data = {"size": pd.Series(x[:, 0]), "kind": kinds}
    return compiled(model, explosive), data, y, dict(ARGUMENTS)


@legal()
def ragged(explosive):
    lengths = 1 + np.arange(ROWS) % 4
    x = tf.RaggedTensor.from_row_lengths(
        np.random.default_rng(0).normal(size=(lengths.sum(), 3)).astype("float32"), lengths
    )
    y = (lengths[:, None] / 2.0 - 1.0).astype("float32")

    @keras.saving.register_keras_serializable("legal")
    class Dense(layers.Layer):
        def call(self, inputs):
            return inputs.to_tensor() if isinstance(inputs, tf.RaggedTensor) else inputs

    model = keras.Sequential([Dense(), layers.GRU(4), layers.Dense(1)])
    return compiled(model, explosive), x, y, dict(ARGUMENTS)


@legal(ends="REPAIRED", quick=True)
def tf_sparse(explosive):
    x, y = table()
    x[np.abs(x) < 0.5] = 0.0
    model = keras.Sequential(
        [keras.Input((4,), sparse=True), layers.Dense(6, "tanh"), layers.Dense(1)]
    )
    return compiled(model, explosive), tf.sparse.from_dense(x), y, dict(ARGUMENTS)


@legal()
def scipy_sparse(explosive):
    x, y = table()
    x[np.abs(x) < 0.5] = 0.0
    model = keras.Sequential(
        [keras.Input((4,), sparse=True), layers.Dense(6, "tanh"), layers.Dense(1)]
    )
    return compiled(model, explosive), scipy.sparse.csr_matrix(x), y, dict(ARGUMENTS)


@legal()
def a_last_batch_of_one_row(explosive):
    x, y = table(rows=2 * BATCH + 1)
    return compiled(mlp(), explosive), x, y, dict(ARGUMENTS)


@legal(quick=True)
def weights_of_classes(explosive):
    x, y = table()
    model = keras.Sequential(
        [keras.Input((4,)), layers.Dense(6, "relu"), layers.Dense(3, "softmax")]
    )
    model.compile(
        keras.optimizers.SGD(1e30 if explosive else 0.1),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    arguments = {**ARGUMENTS, "class_weight": {0: 2.0, 1: 1.0, 2: 1.0}, "validation_split": 0.2}
    return model, x, np.digitize(y[:, 0], [-0.5, 0.5]), arguments


@legal(ends="REPAIRED")
def weights_of_samples(explosive):
    x, y = table()
    weights = pd.Series(np.linspace(0.1, 2.0, ROWS))
    arguments = {
        **ARGUMENTS,
        "sample_weight": weights,
        "validation_data": (x[:8], y[:8], np.ones(8)),
    }
    return compiled(mlp(), explosive, weighted_metrics=["mae"]), x, y, arguments


@legal()
def lists_of_numbers(explosive):
    x, y = table()
    return (
        compiled(mlp(), explosive),
        tf.constant(x),
        y.astype("float64"),
        {**ARGUMENTS, "shuffle": False},
    )
