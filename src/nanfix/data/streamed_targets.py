"""The targets of validation data that are no arrays, as what has learned nothing is measured by."""

import itertools
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import keras
import tensorflow as tf

from nanfix.data.arrays import joined, rows_in, unpacked
from nanfix.data.training_data import TrainingData

MOST_ROWS = 65_536


def with_targets(validation: TrainingData) -> TrainingData:
    """Return data to judge by with the targets and weights of a stream as arrays, and no more of
    the inputs than Keras needs to know of them; arrays as they are.

    A stream is read once, as an evaluation reads it. One that goes on beyond MOST_ROWS, cannot be
    read again, or gives no targets, stays as it is.
    """
    if not isinstance(validation.x, tf.data.Dataset | keras.utils.PyDataset):
        return validation
    steps = (validation.arguments or {}).get("validation_steps")
    read: list[tuple[Any, Any]] = []
    rows = 0
    for batch in itertools.islice(_batches(validation.x), steps):
        _, y, weight = unpacked(batch)
        rows += rows_in(y) or MOST_ROWS + 1
        if rows > MOST_ROWS:
            return validation
        read.append((y, weight))
    if not read:
        return validation
    y, weight = joined(read, MOST_ROWS)
    return validation if rows_in(y) != rows else replace(validation, x=y, y=y, sample_weight=weight)


def _batches(stream: Any) -> Iterator[Any]:
    if isinstance(stream, tf.data.Dataset):
        yield from stream
    else:
        yield from (stream[index] for index in range(stream.num_batches or 0))
