"""The user's data in every form Keras takes: check it, sample it, split it for validation."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf
from keras import tree

from nanfix.data.arrays import (
    Leaf,
    are_arrays,
    as_keras,
    joined,
    length_of,
    rows_in,
    take_rows,
    unpacked,
)
from nanfix.data.streams import Rewindable, dataset_of, drawn, feed, rewindable, steps_of
from nanfix.records.errors import InputError

if TYPE_CHECKING:
    from nanfix.model.training_step import Batch

SAMPLE_ROWS = 4096
SAMPLE_BYTES = 256_000_000  # no more rows than that are sampled, unless they are few
FEW_ROWS = 64


@dataclass(frozen=True)
class TrainingData:
    """What the user passed to fit: x, y and the arguments that carry data; `arguments`
    are all others.
    """

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
            name: arguments.pop(name)
            for name in ("sample_weight", "validation_data", "validation_split")
            if name in arguments
        }
        if isinstance(named.get("validation_data"), tuple | list):
            named["validation_data"] = tuple(map(rewindable, named["validation_data"]))
        else:
            named["validation_data"] = rewindable(named.get("validation_data"))
        data = cls(rewindable(x), y, arguments=arguments, **named)
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
    def failed(self) -> bool:
        """Whether the user's generator has raised an exception of its own."""
        return isinstance(self.x, Rewindable) and self.x.failed is not None

    @property
    def is_arrays(self) -> bool:
        """Whether Keras holds the data in memory, so that every row can be reached."""
        return are_arrays(self.x, self.y, self.sample_weight)

    def check(self) -> None:
        """Raise InputError when arrays are empty, of a type that Keras refuses, or of
        different lengths.
        """
        if not self.is_arrays:
            return
        for name, part in (("x", self.x), ("y", self.y)):
            for leaf in tree.flatten(part):
                _check_type(name, leaf)
        lengths = {
            length_of(leaf)
            for part in (self.x, self.y, self.sample_weight)
            for leaf in tree.flatten(part)
        } - {None}
        if len(lengths) > 1:
            sizes = ", ".join(
                f"{n}: {[length_of(leaf) for leaf in tree.flatten(p)]}"
                for n, p in (("x", self.x), ("y", self.y))
                if p is not None
            )
            raise InputError(
                "The data have different numbers of rows. Expected: the same in x, y and "
                f"sample_weight. Received: {sizes}. Check how they were split or filtered."
            )
        if lengths == {0}:
            raise InputError(
                "The data are empty. Expected: at least one row in x. Received: 0 rows. Check the "
                "path or filter they come from."
            )

    def fit_arguments(self) -> dict[str, Any]:
        """Return x, y and everything else as `model.fit` takes it; generators go on
        from where they were wound back to.
        """
        validation = self.validation_data
        named = {
            "sample_weight": self.sample_weight,
            "validation_data": tuple(map(feed, validation))
            if isinstance(validation, tuple)
            else feed(validation),
            "validation_split": self.validation_split,
        }
        given = {
            name: value for name, value in named.items() if value is not None and value is not False
        }
        return {"x": feed(self.x), "y": self.y, **given, **(self.arguments or {})}

    def rewind(self, step: int) -> None:
        """Let generators give again what they gave: for training from that step on, for
        validation from the first.
        """
        if isinstance(self.x, Rewindable):
            self.x.rewind(step)
        inputs = unpacked(self.validation_data)[0]
        if isinstance(inputs, Rewindable):
            inputs.rewind(0)

    def training_part(self) -> "TrainingData":
        """Return the rows that are trained on, without the validation data."""
        if self.validation_data is not None or not self.validation_split or not self.is_arrays:
            return replace(self, validation_data=None, validation_split=0.0)
        kept = self._split()
        x, y, weight = (
            take_rows(part, slice(0, kept)) for part in (self.x, self.y, self.sample_weight)
        )
        return replace(self, x=x, y=y, sample_weight=weight, validation_split=0.0)

    def _split(self) -> int:
        """Return the number of rows before those that are split off for validation, as
        Keras counts them.
        """
        return int((rows_in(self.x) or 0) * (1.0 - self.validation_split))

    def shuffled(self, seed: int) -> "TrainingData":
        """Return the same rows in another order, where they are arrays that the user
        lets be shuffled.
        """
        rows = rows_in(self.x) if self.is_arrays else None
        if rows is None or not (self.arguments or {}).get("shuffle", True):
            return self
        return self.in_order(np.random.default_rng(seed).permutation(rows))

    def in_order(self, rows: np.ndarray) -> "TrainingData":
        """Return the same data with these of their rows, in this order. Shapes: rows (n,), indices;
        data that are arrays.
        """
        x, y, weight = (take_rows(part, rows) for part in (self.x, self.y, self.sample_weight))
        return replace(self, x=x, y=y, sample_weight=weight)

    def rows(self, recorded: "list[Batch]") -> "TrainingData":
        """Return up to SAMPLE_ROWS rows of what is trained on: of the user's arrays, or
        the recorded batches.
        """
        part = self.training_part()
        if part.is_arrays:
            return part.in_order(_spread(part.x))
        if (part.arguments or {}).get("class_weight"):  # Keras has made sample weights of them
            recorded = [unpacked(batch)[:2] for batch in recorded]
        batch = joined(recorded, _most_rows(recorded[0]))
        x, y, weight = unpacked(batch)
        packed = keras.utils.pack_x_y_sample_weight(x, y, weight)
        as_packed = isinstance(packed, tuple) == isinstance(batch, tuple) and len(
            tree.flatten(packed)
        ) == len(tree.flatten(batch))
        if (
            as_packed
            and rows_in(batch) is not None
            and None not in map(length_of, tree.flatten(batch))
        ):
            return replace(
                part, x=x, y=y, sample_weight=weight, arguments=_without_steps(part.arguments)
            )
        return replace(
            part,
            x=dataset_of(recorded),
            y=None,
            sample_weight=None,
            arguments=_without_steps(part.arguments),
        )

    def sample(self, recorded: "list[Batch]") -> tuple[Any, Any]:
        """Return x and y of up to SAMPLE_ROWS rows of what is trained on, as Keras
        gives them to the training step.
        """
        part = self.training_part()
        if part.is_arrays:
            rows = part.in_order(_spread(part.x))
            return as_keras(rows.x), as_keras(rows.y)
        return unpacked(joined(recorded, _most_rows(recorded[0])))[:2]

    def validation_part(self, recorded: "list[Batch]") -> "TrainingData":
        """Return the data to judge a probe on: the user's validation data, or else a
        sample of what is trained on.

        A generator's are drawn once and kept, so that every probe is judged on the same.
        """
        if self.validation_data is not None:
            x, y, weight = unpacked(self.validation_data)
            arguments = self.arguments
            if isinstance(x, Rewindable):
                steps = (arguments or {}).get("validation_steps")
                x, arguments = (
                    dataset_of(drawn(x, steps, None if steps else SAMPLE_ROWS)),
                    _without_steps(arguments),
                )
            part = {"x": x, "y": y, "sample_weight": weight, "arguments": arguments}
            return replace(self, validation_data=None, validation_split=0.0, **part)
        if self.validation_split and self.is_arrays:
            part = replace(self, validation_split=0.0)
            return part.in_order(np.arange(rows_in(self.x) or 0)[self._split() :][:SAMPLE_ROWS])
        return self.rows(recorded)

    def steps_per_epoch(self, seen: int | None = None) -> int | None:
        """Return the steps of one epoch, where that can be known before it has ended."""
        arguments = self.arguments or {}
        if arguments.get("steps_per_epoch"):
            return int(arguments["steps_per_epoch"])
        if self.is_arrays:
            return -(-(rows_in(self.x) or 0) // int(arguments.get("batch_size") or 32))
        return steps_of(self.x) or seen


def _spread(x: Any) -> np.ndarray:
    """Return the indices of a sample of rows, which covers all of them evenly."""
    rows = rows_in(x) or 0
    return np.unique(np.linspace(0, rows - 1, min(rows, _most_rows(x))).astype(int))


def _most_rows(part: Any) -> int:
    """Return how many rows like these are sampled: those of images, which are large, are fewer."""
    sizes = (getattr(leaf, "nbytes", None) or _dense_bytes(leaf) for leaf in tree.flatten(part))
    of_a_row = sum(sizes) / max(rows_in(part) or 1, 1)
    return min(SAMPLE_ROWS, max(FEW_ROWS, int(SAMPLE_BYTES / max(of_a_row, 1.0))))


def _dense_bytes(leaf: Leaf) -> int:
    return int(leaf.shape.num_elements() or 0) * leaf.dtype.size if tf.is_tensor(leaf) else 0


def _without_steps(arguments: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the arguments of fit without the length of a validation: the data are all
    that is to be judged on.
    """
    return {name: value for name, value in (arguments or {}).items() if name != "validation_steps"}


def _check_type(name: str, leaf: Leaf) -> None:
    """Raise InputError for an array of a type that Keras refuses."""
    try:
        as_keras(take_rows(leaf, slice(0, 2)))
    except (ValueError, TypeError) as refused:
        dtypes = (
            list(leaf.dtypes)
            if hasattr(leaf, "columns")
            else [getattr(leaf, "dtype", type(leaf).__name__)]
        )
        kinds = sorted({str(dtype) for dtype in dtypes})
        raise InputError(
            f"Keras takes no {name} of {' and '.join(kinds)} dtype. Expected: numbers, for "
            f"instance float32. Received: {name} with dtype {', '.join(kinds)} ({refused}). "
            f"Convert it, for instance with {name}.astype('float32'), or encode its text columns."
        ) from refused
