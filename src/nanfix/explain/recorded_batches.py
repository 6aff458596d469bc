"""The batches by which a stream is known: those that were recorded, and as many more as it takes to
say anything of all its data.
"""

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from nanfix.data.arrays import flat_arrays, rows_in, unpacked
from nanfix.data.streams import first_batches
from nanfix.data.training_data import TrainingData
from nanfix.model.faults import is_raised_by_nanfix
from nanfix.model.training_step import batch_bytes
from nanfix.recorder.recording import Recording

if TYPE_CHECKING:
    from nanfix.model.training_step import Batch

DRAWN = (8, 64, 512)  # first batches of a stream that are drawn, until they are enough
DRAWING_SECONDS = 5.0  # after which no more are drawn
# Of fewer rows a median or a deviation is chance, and what is rare does not occur; of such as are
# large, fewer.
ENOUGH_ROWS, ENOUGH_BYTES = 512, 64_000_000


def recorded_batches(data: TrainingData, recording: Recording) -> "list[Batch]":
    """Return the batches of a stream that are still at hand, or else its first ones; arrays need
    none. Where these are few, or nothing can be learned of them, the first ones are drawn, too:
    what is said of all data is not to be said of a batch that failed.
    """
    if data.is_arrays:
        return []
    batches = [step.whole_batch for step in recording.steps] or [recording.first_batch]
    kept = [batch for batch in batches if batch is not None]
    found, begun = kept or first_batches(data.x), time.monotonic()
    for count in DRAWN:
        if _are_enough(found) or time.monotonic() > begun + DRAWING_SECONDS:
            break
        drawn = _drawn_ahead(data, count)
        if drawn:
            found = [*kept, *(batch for batch in drawn if not _is_among(batch, kept))]
        if len(drawn) < count:
            break
    return found


def _drawn_ahead(data: TrainingData, count: int) -> "list[Batch]":
    """Return the first batches of a stream, no more than an epoch has: the next may never be made.
    None where the user's code fails to make one, as it will when training comes to it.
    """
    try:
        return first_batches(data.x, min(count, data.steps_per_epoch() or count))
    except Exception as error:
        if is_raised_by_nanfix(error):
            raise
        return []


def _are_enough(batches: "Sequence[Batch]") -> bool:
    rows = sum(rows_in(batch) or 0 for batch in batches)
    many = rows >= ENOUGH_ROWS or sum(map(batch_bytes, batches)) >= ENOUGH_BYTES
    return many and any(map(_is_of_use, batches))


def _is_of_use(batch: "Batch") -> bool:
    """Say whether a batch has rows, and a finite number in everything that it is made of."""
    arrays = [array for part in unpacked(batch) for array in flat_arrays(part)]
    numbers = [array for array in arrays if array.dtype.kind == "f"]
    return rows_in(batch) != 0 and all(np.isfinite(array).any() for array in numbers)


def _is_among(batch: "Batch", kept: "Sequence[Batch]") -> bool:
    """Say whether a batch has the inputs of one of these: then it is the same one."""
    inputs = flat_arrays(unpacked(batch)[0])
    return any(_are_equal(inputs, flat_arrays(unpacked(other)[0])) for other in kept)


def _are_equal(arrays: list[np.ndarray], others: list[np.ndarray]) -> bool:
    return len(arrays) == len(others) and all(
        np.array_equal(one, other, equal_nan=one.dtype.kind == "f")
        for one, other in zip(arrays, others, strict=True)
    )
