"""Data that come in batches: datasets, generators, datasets of users' own."""

import itertools

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from legal.training import (
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
