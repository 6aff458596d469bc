"""The user's data in every form Keras takes: check it, sample it, hold some of it back, feed it again."""

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
import psutil
import tensorflow as tf
from keras import tree

from nanfix.errors import InputError

SAMPLE_ROWS = 4096


@dataclass(frozen=True)
class TrainingData:
    """What the user passed to fit: x, y and the arguments that carry data; `arguments` are all others."""

    x: Any
    y: Any = None
    sample_weight: Any = None
    validation_data: Any = None
    validation_split: float = 0.0
    arguments: Mapping[str, Any] | None = None

    @classmethod
    def of(cls, x: Any, y: Any, fit_arguments: Mapping[str, Any]) -> "TrainingData":
        """Sort the arguments of fit. Raises InputError for data that no training can use."""
        arguments = dict(fit_arguments)
        named = {
            name: arguments.pop(name) for name in ("sample_weight", "validation_data", "validation_split") if name in arguments
        }
        data = cls(_rewindable(x), y, arguments=arguments, **named)
        data.check()
        return data

    @property
    def epochs(self) -> int:
        return int((self.arguments or {}).get("epochs", 1))

    @property
    def one_shot(self) -> bool:
        """Whether the data can be drawn only once, as a Python generator's."""
        return isinstance(self.x, Rewindable)

    @property
    def is_arrays(self) -> bool:
        return _rows(self.x) is not None

    def check(self) -> None:
        """Raise InputError when the data are empty, of object type, or of different lengths."""
        for name, part in (("x", self.x), ("y", self.y)):
            for leaf in _leaves(part):
                _check_dtype(name, leaf)
        lengths = {_length(leaf) for part in (self.x, self.y, self.sample_weight) for leaf in _leaves(part)} - {None}
        if len(lengths) > 1:
            told = ", ".join(
                f"{n}: {[_length(leaf) for leaf in _leaves(p)]}" for n, p in (("x", self.x), ("y", self.y)) if p is not None
            )
            raise InputError(
                f"The data have different numbers of rows. Expected: the same in x, y and sample_weight. Received: {told}. "
                "Check how they were split or filtered."
            )
        if lengths == {0} or (_length(self.x) == 0 and not self.one_shot):
            raise InputError(
                "The data are empty. Expected: at least one row in x. Received: 0 rows. Check the path or filter they come from."
            )

    def fit_arguments(self) -> dict[str, Any]:
        """Return x, y and everything else as `model.fit` takes it."""
        named = {
            "sample_weight": self.sample_weight,
            "validation_data": self.validation_data,
            "validation_split": self.validation_split,
        }
        return {
            "x": self.x,
            "y": self.y,
            **{k: v for k, v in named.items() if v is not None and v is not False},
            **(self.arguments or {}),
        }

    def training_part(self) -> "TrainingData":
        """Return the rows that are trained on, without the validation data."""
        rows = _rows(self.x)
        if self.validation_data is not None or not self.validation_split or rows is None:
            return replace(self, validation_data=None, validation_split=0.0)
        kept = int(rows * (1.0 - self.validation_split))
        x, y, weight = (take_rows(part, slice(0, kept)) for part in (self.x, self.y, self.sample_weight))
        return replace(self, x=x, y=y, sample_weight=weight, validation_split=0.0)

    def shuffled(self, seed: int) -> "TrainingData":
        """Return the same rows in another order, where they are arrays that the user lets be shuffled."""
        rows = _rows(self.x)
        if rows is None or not (self.arguments or {}).get("shuffle", True):
            return self
        return self.in_order(np.random.default_rng(seed).permutation(rows))

    def in_order(self, rows: np.ndarray) -> "TrainingData":
        """Return the same data with these of their rows, in this order. Shapes: rows (n,), indices; data that are arrays."""
        x, y, weight = (take_rows(part, rows) for part in (self.x, self.y, self.sample_weight))
        return replace(self, x=x, y=y, sample_weight=weight)

    def rows(self, recorded: list[Any]) -> "TrainingData":
        """Return up to SAMPLE_ROWS rows of what is trained on, as arrays: the user's own, or the recorded batches."""
        part = self.training_part()
        rows = _rows(part.x)
        if rows is not None:
            return part.in_order(np.unique(np.linspace(0, rows - 1, min(rows, SAMPLE_ROWS)).astype(int)))
        x, y = (
            tree.map_structure(lambda *leaves: np.concatenate([np.asarray(leaf) for leaf in leaves])[:SAMPLE_ROWS], *side)
            for side in zip(*(keras.utils.unpack_x_y_sample_weight(batch)[:2] for batch in recorded), strict=True)
        )
        return replace(part, x=x, y=y, sample_weight=None)

    def held(self, recorded: list[Any]) -> "TrainingData":
        """Return the data to judge a probe on: the user's validation data, or else a sample of what is trained on."""
        rows = _rows(self.x)
        if self.validation_data is not None:
            x, y, weight = keras.utils.unpack_x_y_sample_weight(self.validation_data)
            return replace(self, x=x, y=y, sample_weight=weight, validation_data=None, validation_split=0.0)
        if self.validation_split and rows is not None:
            start = int(rows * (1.0 - self.validation_split))
            x, y, weight = (take_rows(part, slice(start, start + SAMPLE_ROWS)) for part in (self.x, self.y, self.sample_weight))
            return replace(self, x=x, y=y, sample_weight=weight, validation_split=0.0)
        return self.rows(recorded)

    def steps_per_epoch(self, seen: int | None = None) -> int | None:
        """Return the steps of one epoch, where that can be known before it has ended."""
        arguments = self.arguments or {}
        if arguments.get("steps_per_epoch"):
            return int(arguments["steps_per_epoch"])
        rows = _rows(self.x)
        if rows is not None:
            return -(-rows // int(arguments.get("batch_size") or 32))
        if isinstance(self.x, keras.utils.PyDataset):
            return self.x.num_batches
        if isinstance(self.x, tf.data.Dataset):
            count = int(self.x.cardinality())
            return count if count > 0 else seen
        return seen


class Rewindable:
    """A generator that remembers what was drawn from it, so that batches drawn ahead are not lost on a rollback.

    It remembers the newest batches, up to `memory_bytes`, by default a tenth of the free memory.
    """

    def __init__(self, source: Iterator[Any], memory_bytes: int | None = None):
        self._source = source
        self._room = memory_bytes or psutil.virtual_memory().available // 10
        self._drawn: deque[Any] = deque()
        self._pending: deque[Any] = deque()
        self.position = 0

    def feed(self) -> Iterator[Any]:
        """Yield what was rewound, then what the user's generator yields."""
        while True:
            if self._pending:
                batch = self._pending.popleft()
            else:
                try:
                    batch = next(self._source)
                except StopIteration:
                    return
            self._drawn.append(batch)
            self._room -= _nbytes(batch)
            while self._room < 0 and len(self._drawn) > 1:
                self._room += _nbytes(self._drawn.popleft())
            self.position += 1
            yield batch

    def rewind(self, position: int) -> None:
        """Go back so that the next batch is number `position`, as far back as memory goes."""
        count = min(self.position - position, len(self._drawn))
        for _ in range(count):
            batch = self._drawn.pop()
            self._room += _nbytes(batch)
            self._pending.appendleft(batch)
        self.position -= count


def _nbytes(batch: Any) -> int:
    return sum(int(getattr(leaf, "nbytes", 0)) for leaf in tree.flatten(batch))


def feed(x: Any) -> Any:
    """Return what `model.fit` is to be given as x."""
    return x.feed() if isinstance(x, Rewindable) else x


def _rewindable(x: Any) -> Any:
    return Rewindable(x) if isinstance(x, Iterator) and not isinstance(x, tf.data.Dataset) else x


def _leaves(part: Any) -> list[Any]:
    if part is None or isinstance(part, Rewindable | tf.data.Dataset | keras.utils.PyDataset):
        return []
    return [leaf for leaf in ([part] if hasattr(part, "iloc") else tree.flatten(part)) if leaf is not None]


def _check_dtype(name: str, leaf: Any) -> None:
    dtypes = list(leaf.dtypes) if hasattr(leaf, "dtypes") and hasattr(leaf, "columns") else [getattr(leaf, "dtype", None)]
    kinds = sorted({str(dtype) for dtype in dtypes})
    if "object" in kinds:
        raise InputError(
            f"{name} has object dtype. Expected: numbers, for instance float32. Received: {name} with dtype {', '.join(kinds)}. "
            f"Convert it, for instance with {name}.astype('float32'), or encode its text columns."
        )


def _length(part: Any) -> int | None:
    shape = getattr(part, "shape", None)
    if shape is not None:
        return int(shape[0]) if len(shape) else None
    return len(part) if isinstance(part, list | tuple | np.ndarray) else None


def _rows(x: Any) -> int | None:
    """Return the number of rows of arrays, frames and structures of them; None for streams."""
    lengths = {_length(leaf) for leaf in _leaves(x)}
    return lengths.pop() if len(lengths) == 1 and None not in lengths else None


def take_rows(part: Any, rows: Any) -> Any:
    """Return the given rows of an array, a frame, or a structure of them."""
    if part is None:
        return None
    if hasattr(part, "iloc"):
        return part.iloc[rows]
    return tree.map_structure(lambda leaf: leaf.iloc[rows] if hasattr(leaf, "iloc") else np.asarray(leaf)[rows], part)


def flat_arrays(part: Any) -> list[np.ndarray]:
    """Return the arrays in a structure, in the order Keras flattens it."""
    return [np.asarray(leaf) for leaf in _leaves(part)]
