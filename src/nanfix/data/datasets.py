"""Feed training what Keras makes of arrays, once for trainings of a few steps and many of them.

What Keras does for arrays in every call of `fit` and `evaluate` is dearer than such a
training: it traces the functions of a dataset, makes two iterators for every epoch, each of
which builds these functions anew (12 ms), and the end of every epoch has to wait for the
thread that tunes it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from nanfix.data.arrays import rows_in
from nanfix.data.streams import as_dataset
from nanfix.data.training_data import TrainingData
from nanfix.model.training_step import batch_bytes
from nanfix.private.keras import ArrayDataAdapter

if TYPE_CHECKING:
    from nanfix.model.training_step import Batch

# Batches are kept as they are to be given again where an epoch has so few, of so few bytes: 120
# steps, as most probes have, come to several such epochs.
HELD_BATCHES, HELD_BYTES = 256, 64_000_000


def trained_on(part: TrainingData) -> TrainingData:
    """Return the same training from a dataset of the batches that Keras makes of the
    arrays; a stream as it is.

    The batches are those of the user's own `fit`, in the same order where it is seeded:
    what a probe comes to then says most of what the training will. A dataset of the
    user's is not tuned while it is read.
    """
    if not part.is_arrays:
        return (
            replace(part, x=part.x.with_options(_untuned()))
            if isinstance(part.x, tf.data.Dataset)
            else part
        )
    arguments = dict(part.arguments or {})
    taken = {
        name: arguments.pop(name)
        for name in ("batch_size", "shuffle", "class_weight")
        if name in arguments
    }
    steps = arguments.get("steps_per_epoch")
    dataset = _dataset(part, steps=steps, **{"shuffle": True, **taken})
    count = int(dataset.cardinality())
    arguments |= {"shuffle": False, "steps_per_epoch": min(steps or count, count)}
    return replace(
        part, x=_again_and_again(dataset), y=None, sample_weight=None, arguments=arguments
    )


def untuned(arguments: dict[str, Any]) -> dict[str, Any]:
    """Return arguments of fit with the dataset that Keras makes of a generator in the place of it,
    not tuned while it is read.
    """
    x = arguments["x"]
    return (
        {**arguments, "x": as_dataset(x).with_options(_untuned())}
        if isinstance(x, Iterator)
        else arguments
    )


def judged_on(data: TrainingData, batch_size: int | None) -> TrainingData:
    """Return arrays as a dataset to evaluate a model on; a stream as it is."""
    if not data.is_arrays:
        return data
    return replace(data, x=_dataset(data, batch_size=batch_size), y=None, sample_weight=None)


def judged_again_on(data: TrainingData, batch_size: int | None) -> TrainingData:
    """Return arrays as a dataset to evaluate a model on many times, `validation_steps` of it each
    time; a stream as it is.
    """
    fed = judged_on(data, batch_size)
    if not data.is_arrays:
        return fed
    arguments = {**(data.arguments or {}), "validation_steps": int(fed.x.cardinality())}
    return replace(fed, x=_again_and_again(fed.x), arguments=arguments)


def batches_of(
    part: TrainingData, rows: Sequence[int] | np.ndarray, batch_size: int
) -> "list[Batch]":
    """Return the given rows of arrays as the batches that Keras gives to the training
    step, class weights included.
    """
    chosen = part.in_order(np.asarray(rows))
    return list(
        _dataset(
            chosen, batch_size=batch_size, class_weight=(part.arguments or {}).get("class_weight")
        )
    )


def drawn_batches(part: TrainingData, count: int) -> "list[Batch]":
    """Return batches of the user's arrays, rows drawn with a seed of their own."""
    if count <= 0:
        return []
    rows = rows_in(part.x) or 0
    size = min(batch_size_of(part), rows)
    order = np.random.default_rng(0).permutation(rows)
    return batches_of(part, np.take(order, range(count * size), mode="wrap"), size)


def batch_size_of(part: TrainingData) -> int:
    """Return the rows of a full batch of arrays, as Keras cuts them."""
    arguments, rows = part.arguments or {}, rows_in(part.x) or 0
    if arguments.get("batch_size"):
        return int(arguments["batch_size"])
    steps = arguments.get("steps_per_epoch")
    return -(-rows // int(steps)) if steps else 32


def _dataset(data: TrainingData, **how: Any) -> tf.data.Dataset:
    arrays: Any = ArrayDataAdapter(data.x, data.y, sample_weight=data.sample_weight, **how)
    batches = arrays.get_tf_dataset().apply(
        tf.data.experimental.assert_cardinality(arrays.num_batches)
    )
    return batches.with_options(_untuned())


def _again_and_again(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Return a dataset that gives these batches without end, in an epoch of few batches the very
    same ones again.
    """
    count = int(dataset.cardinality())
    if count <= HELD_BATCHES and count * _most_bytes(dataset) <= HELD_BYTES:
        dataset = dataset.cache()
        for _ in dataset:  # TensorFlow warns of a cache that was not filled
            pass
    return dataset.repeat()


def _most_bytes(dataset: tf.data.Dataset) -> int:
    """Return the bytes of the first batch, which no other exceeds."""
    return batch_bytes(next(iter(dataset)))


def _untuned() -> tf.data.Options:
    options = tf.data.Options()
    options.autotune.enabled = False
    return options
