"""Feed training what Keras makes of arrays, once for trainings of a few steps and many of them.

What Keras does for arrays in every call of `fit` and `evaluate` is dearer than such a
training: it traces the functions of a dataset, and the end of every epoch has to wait
for the thread that tunes it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from nanfix.data.arrays import rows_in
from nanfix.data.streams import as_dataset
from nanfix.data.training_data import TrainingData
from nanfix.private.keras import ArrayDataAdapter

if TYPE_CHECKING:
    from nanfix.model.training_step import Batch


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
    dataset = _dataset(part, steps=arguments.get("steps_per_epoch"), **{"shuffle": True, **taken})
    return replace(
        part, x=dataset, y=None, sample_weight=None, arguments={**arguments, "shuffle": False}
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


def _untuned() -> tf.data.Options:
    options = tf.data.Options()
    options.autotune.enabled = False
    return options
