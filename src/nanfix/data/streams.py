"""Data that come batch by batch: draw some without losing them, go back to where they were, keep
what cannot be drawn twice.
"""

import itertools
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import tensorflow as tf
from keras import tree

from nanfix.data.arrays import rows_in
from nanfix.data.memory import available
from nanfix.model.training_step import Batch, whole
from nanfix.private.keras import get_data_adapter

# Of the memory that is free, for the batches of a generator that are remembered.
SHARE_OF_MEMORY = 0.1
FIRST = 8  # batches, from which a stream is known where none was recorded


class Rewindable:
    """A generator that remembers what was drawn from it, so that batches drawn ahead
    are not lost on a rollback.

    It remembers the newest batches, up to `memory_bytes`, by default a tenth of the free memory. It
    may be rewound while the thread of a dataset draws from it: the batch being made is waited for,
    and belongs to those that come again.
    """

    def __init__(self, source: Iterator[Any], memory_bytes: int | None = None):
        self._source = source
        self._room = memory_bytes or int(available() * SHARE_OF_MEMORY)
        self._drawn: deque[Batch] = deque()
        self._pending: deque[Batch] = deque()
        self._lock = threading.Lock()
        self._feed = 0  # the newest one is live, those of trainings broken off are dead
        self._ended = False
        self.position = 0
        self.failed: Exception | None = None  # what the generator itself has raised

    def feed(self) -> Iterator[Batch]:
        """Yield what was rewound, then what the user's generator yields. A feed made
        earlier ends.
        """
        with self._lock:
            self._feed += 1
            mine = self._feed
        return self._batches(mine)

    def _batches(self, mine: int) -> Iterator[Batch]:
        while True:
            with self._lock:
                if mine != self._feed or not self._draw():
                    return
                batch = self._drawn[-1]
            yield batch

    def _draw(self) -> bool:
        """Put the next batch behind those drawn; False at the end."""
        if self._pending:
            batch = self._pending.popleft()
        elif self.failed is not None:
            raise self.failed
        else:
            try:
                batch = next(self._source)
            except StopIteration:
                self._ended = True
                return False
            except Exception as error:
                self.failed = error
                raise
        self._drawn.append(batch)
        self._room -= _nbytes(batch)
        while self._room < 0 and len(self._drawn) > 1:
            self._room += _nbytes(self._drawn.popleft())
        self.position += 1
        return True

    def rewind(self, position: int) -> None:
        """Go back so that the next batch is number `position`, as far back as memory goes.

        A generator that has ended, and of which nothing would be left, goes back as far as it can.
        """
        with self._lock:
            self._feed += 1
            count = max(self.position - position, 0)
            if self._ended and not self._pending and not count:
                count = len(self._drawn)
            for _ in range(min(count, len(self._drawn))):
                batch = self._drawn.pop()
                self._room += _nbytes(batch)
                self._pending.appendleft(batch)
                self.position -= 1


def dataset_of(batches: Sequence[Batch]) -> tf.data.Dataset:
    """Return batches of tensors, whose shapes may differ, as a dataset that gives the
    same ones again and again.
    """
    datasets = [tf.data.Dataset.from_tensors(batch) for batch in batches]
    # In pairs, as a chain of them would be read by as many nested iterators.
    while len(datasets) > 1:
        pairs = zip(datasets[::2], datasets[1::2], strict=False)
        datasets = [one.concatenate(other) for one, other in pairs] + datasets[
            len(datasets) // 2 * 2 :
        ]
    return datasets[0]


def rewindable(x: Any) -> Any:
    """Return a Python generator as a Rewindable, anything else as it is."""
    return Rewindable(x) if isinstance(x, Iterator) and not isinstance(x, tf.data.Dataset) else x


def feed(x: Any) -> Any:
    """Return what `model.fit` is to be given as x."""
    return x.feed() if isinstance(x, Rewindable) else x


def as_dataset(x: Any) -> Any:
    """Return a stream, a Python generator or a torch DataLoader say, as the dataset
    that Keras reads it by.
    """
    if isinstance(x, tf.data.Dataset | tf.distribute.DistributedDataset):
        return x
    adapter: Any = get_data_adapter(x)
    dataset = adapter.get_tf_dataset()
    count = adapter.num_batches
    return (
        dataset if count is None else dataset.apply(tf.data.experimental.assert_cardinality(count))
    )


def first_batches(x: Any, count: int = FIRST) -> list[Batch]:
    """Return the first few batches of a stream as Keras gives them to the training step; a
    generator gives them again.
    """
    if isinstance(x, Rewindable):
        return drawn(x, count)
    if isinstance(x, keras.utils.PyDataset):  # not by its workers, which would run on
        made = [x[index] for index in range(min(count, x.num_batches or count))]
        x = (
            (
                batch
                if isinstance(batch, tuple)
                else tuple(batch)
                if isinstance(batch, list)
                else (batch,)
            )
            for batch in made
        )
    return [whole(batch) for batch in itertools.islice(as_dataset(x), count)]


def drawn(x: Rewindable, steps: int | None, most_rows: int | None = None) -> list[Batch]:
    """Return the first `steps` batches of a generator, or as many as have `most_rows`
    rows; it gives them again.
    """
    x.rewind(0)
    batches, rows = [], 0
    try:
        for batch in itertools.islice(x.feed(), steps):
            batches.append(batch)
            rows += rows_in(batch) or 1
            if most_rows is not None and rows >= most_rows:
                break
    finally:
        x.rewind(0)
    return [whole(batch) for batch in as_dataset(batch for batch in batches)]


def steps_of(x: Any) -> int | None:
    """Return the number of batches of a stream, where it knows it."""
    if isinstance(x, Rewindable):
        return None
    if isinstance(x, keras.utils.PyDataset):
        return x.num_batches
    if isinstance(x, tf.data.Dataset):
        count = int(x.cardinality())
        return count if count > 0 else None
    dataset = getattr(x, "dataset", None)  # a torch DataLoader of a dataset that has a length
    return len(x) if hasattr(dataset, "__len__") and hasattr(x, "__len__") else None


def _nbytes(batch: Batch) -> int:
    return sum(int(getattr(leaf, "nbytes", 0)) for leaf in tree.flatten(batch))
