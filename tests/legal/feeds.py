"""Data in every form that Keras takes: frames, ragged and sparse ones, streams, generators,
datasets of users' own.
"""

import itertools

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
    STEPS,
    STREAMED,
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


@legal(ends="REPAIRED", quick=True)
def padded_batches(explosive):
    """Batches whose sequences differ in length from batch to batch."""

    def sequences():
        rng = np.random.default_rng(0)
        for row in range(ROWS):
            yield (
                rng.normal(size=(2 + row // BATCH, 3)).astype("float32"),
                np.float32([row % 3 - 1.0]),
            )

    kinds = tf.TensorSpec((None, 3)), tf.TensorSpec((1,))
    stream = tf.data.Dataset.from_generator(sequences, output_signature=kinds).padded_batch(BATCH)
    model = keras.Sequential([keras.Input((None, 3)), layers.GRU(4), layers.Dense(1)])
    return compiled(model, explosive), stream, None, dict(STREAMED)


@legal()
def a_last_batch_of_one_row(explosive):
    x, y = table(rows=2 * BATCH + 1)
    return compiled(mlp(), explosive), x, y, dict(ARGUMENTS)


def _batches_of(sizes):
    x, y = table()
    bounds = np.cumsum([0, *sizes])

    def batches():
        for begin, end in itertools.pairwise(bounds):
            yield x[begin:end], y[begin:end]

    return tf.data.Dataset.from_generator(
        batches, output_signature=(tf.TensorSpec((None, 4)), tf.TensorSpec((None, 1)))
    )


@legal()
def batches_of_differing_sizes(explosive):
    return compiled(mlp(), explosive), _batches_of([8, 1, 12, 3, 16]), None, dict(STREAMED)


@legal()
def a_batch_of_no_rows(explosive):
    """Keras trains on an empty batch; a sum, unlike a mean, stays finite."""
    model = compiled(mlp(), explosive, keras.losses.MeanSquaredError(reduction="sum"))
    return model, _batches_of([8, 8, 0, 8]), None, dict(STREAMED)


@legal(ends="REPAIRED", quick=True)
def unbatched_scalars(explosive):
    """Scalar leaves: each element of x is a number."""
    x, y = table()
    stream = tf.data.Dataset.from_tensor_slices((x[:, 0], y[:, 0])).batch(BATCH)
    model = keras.Sequential(
        [keras.Input(()), layers.Reshape((1,)), layers.Dense(6, "tanh"), layers.Dense(1)]
    )
    return compiled(model, explosive), stream, None, dict(STREAMED)


def _stream(explosive=False):
    x, y = table()
    return tf.data.Dataset.from_tensor_slices((x, y)).batch(BATCH)


@legal(ends="REPAIRED")
def dataset_shuffled_and_cached(explosive):
    x, y = table()
    stream = (
        tf.data.Dataset.from_tensor_slices((x, y))
        .cache()
        .shuffle(ROWS, seed=2)
        .batch(BATCH)
        .prefetch(1)
    )
    return compiled(mlp(), explosive), stream, None, {**STREAMED, "validation_data": _stream()}


@legal(ends="REPAIRED")
def dataset_repeated(explosive):
    stream = _stream().repeat()
    return compiled(mlp(), explosive), stream, None, {**STREAMED, "steps_per_epoch": 3}


@legal()
def dataset_drawn_in_part(explosive):
    """Epochs shorter than the data: each goes on where the one before stopped."""
    return compiled(mlp(), explosive), _stream().repeat(2), None, {**STREAMED, "steps_per_epoch": 4}


@legal()
def dataset_of_three(explosive):
    x, y = table()
    weights = np.linspace(0.5, 1.5, ROWS, dtype="float32")
    return (
        compiled(mlp(), explosive),
        tf.data.Dataset.from_tensor_slices((x, y, weights)).batch(BATCH),
        None,
        dict(STREAMED),
    )


@legal()
def dataset_with_a_hole(explosive):
    x, y = table()
    stream = tf.data.Dataset.from_tensor_slices((with_a_hole(x, explosive), y)).batch(BATCH)
    return compiled(mlp(), False), stream, None, dict(STREAMED)


def _endless(explosive=False):
    x, y = table()
    while True:
        for begin in range(0, ROWS, BATCH):
            yield x[begin : begin + BATCH], y[begin : begin + BATCH]


@legal(ends="REPAIRED")
def dataset_from_an_endless_generator(explosive):
    kinds = tf.TensorSpec((None, 4)), tf.TensorSpec((None, 1))
    stream = tf.data.Dataset.from_generator(_endless, output_signature=kinds)
    return compiled(mlp(), explosive), stream, None, {**STREAMED, "steps_per_epoch": STEPS}


@legal()
def generators(explosive):
    arguments = {
        **STREAMED,
        "steps_per_epoch": STEPS,
        "validation_data": _endless(),
        "validation_steps": 2,
    }
    return compiled(mlp(), explosive), _endless(), None, arguments


@legal()
def finite_generators(explosive):
    """A generator for each that lasts for the epochs to come and no longer."""

    def lasting(batches):
        feed = _endless()
        return (next(feed) for _ in range(batches))

    arguments = {
        **STREAMED,
        "steps_per_epoch": STEPS,
        "validation_data": lasting(4),
        "validation_steps": 2,
    }
    return compiled(mlp(), explosive), lasting(2 * STEPS), None, arguments


class Batches(keras.utils.PyDataset):
    def __init__(self, explosive=False, **settings):
        super().__init__(**settings)
        x, y = table()
        self.x, self.y, self.ended = with_a_hole(x, explosive), y, 0

    def __len__(self):
        return STEPS

    def __getitem__(self, index):
        rows = slice(BATCH * index, BATCH * (index + 1))
        return self.x[rows], self.y[rows]

    def on_epoch_end(self):
        self.ended += 1


@legal(ends="REPAIRED")
def pydataset(explosive):
    return compiled(mlp(), explosive), Batches(), None, {**STREAMED, "validation_data": Batches()}


@legal()
def pydataset_with_workers(explosive):
    return compiled(mlp(), explosive), Batches(workers=2, max_queue_size=3), None, dict(STREAMED)


@legal(ends="REPAIRED", quick=True)
def pydataset_with_a_hole(explosive):
    return compiled(mlp(), False), Batches(explosive), None, dict(STREAMED)


@legal(needs="torch")
def torch_loader(explosive):
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    x, y = table()
    loader = DataLoader(TensorDataset(torch.from_numpy(x), torch.from_numpy(y)), batch_size=BATCH)
    return compiled(mlp(), explosive), loader, None, dict(STREAMED)


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
