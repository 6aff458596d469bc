"""What a trained model predicts for single rows, beside what it predicts for others."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from keras import tree

from nanfix.data.arrays import as_keras, flat_arrays, rows_in, take_rows
from nanfix.data.training_data import TrainingData
from nanfix.model.outputs import OUTPUT, in_order, keys_of, last_names

if TYPE_CHECKING:
    import keras

# Times that targets are dealt out anew, so that their mean is no chance, and that one row's are
# given to all; among few rows most get what they had, or the like.
DEALS, ALIKE, FEWEST = 8, 3, 16
MOST = 256  # rows that are looked at
LOST = 10.0  # times the error of its mean, that of a column is no noise, nor slow learning
SAME = 1e-6  # share of the largest by which rounding makes predictions differ that are the same


Figures = dict[str, float]  # what Keras reports of a model, by its names


@dataclass(frozen=True)
class RowByRow:
    """Looks at what a prepared model makes of each of the rows of the validation data.

    Args:
        model: the model, None where it cannot be called alone.
        validation: the rows; of what is no arrays, or of few rows, nothing is known.
        figures_on: evaluates the model on data.
        rows_at_once: how many rows the model takes, None where it takes any number.
    """

    model: "keras.Model"
    validation: TrainingData
    figures_on: Callable[[TrainingData], Figures]
    rows_at_once: int | None

    def lifeless(self) -> list[str]:
        """Return the outputs that are the very same for all of the first rows, though their targets
        are not; an only output is called "output".
        """
        given = self._pairs()
        return [name for name, made, wanted in given if not varies(made) and varies(wanted)]

    def lost_columns(self, names: Collection[str]) -> list[str]:
        """Return which columns of these outputs are predicted many times worse than by their mean,
        of outputs that are tables of several.
        """
        tables = [
            (name, made.astype("float64"), wanted.astype("float64"))
            for name, made, wanted in self._pairs()
            if name in names and made.shape == wanted.shape and made.ndim == 2
        ]
        return [
            f"column {column} of {name}"
            for name, made, wanted in tables
            if made.shape[1] > 1
            for column in np.flatnonzero(_is_lost(made, wanted))
        ]

    def _pairs(self) -> list[tuple[str, np.ndarray, np.ndarray]]:
        """Return the outputs by their names, each with what the model gives for the first rows and
        what was wanted.
        """
        if self.model is None or not self._count:
            return []
        rows = slice(0, self.rows_at_once or MOST)
        x, y = (take_rows(part, rows) for part in (self.validation.x, self.validation.y))
        made = self.model(as_keras(x), training=False)
        outputs = [np.asarray(leaf) for leaf in tree.flatten(made)]
        names = list(keys_of(made) or last_names(self.model)) if len(outputs) > 1 else [OUTPUT]
        targets = in_order(flat_arrays(y), y, names)
        if not len(names) == len(outputs) == len(targets):
            return []
        return list(zip(names, outputs, targets, strict=True))

    @property
    def targets_vary(self) -> bool:
        """Whether the targets of the rows, of so many that this can be told, differ at all."""
        return self._count > 0 and any(map(varies, flat_arrays(self.validation.y)))

    def dealt_out(self) -> list[Figures]:
        """Return the figures with the targets dealt out anew among the rows, several times.

        A model that predicts the same for all rows comes to the same loss, whatever the loss is.
        """
        rng, deals = np.random.default_rng(0), DEALS if self._count else 0
        return [self._given_those_of(rng.permutation(self._count)) for _ in range(deals)]

    def all_alike(self) -> list[Figures]:
        """Return the figures with the targets of a single row for all, of a few rows. A loss that
        stays the same does not look at the targets.
        """
        rows = np.random.default_rng(1).integers(0, self._count, ALIKE) if self._count else ()
        return [self._given_those_of(np.full(self._count, row)) for row in rows]

    @property
    def _count(self) -> int:
        known = self.validation.is_arrays and self.validation.y is not None
        count = rows_in(self.validation.y) or 0 if known else 0
        return count if count >= FEWEST else 0

    def _given_those_of(self, rows: np.ndarray) -> Figures:
        y, weight = (
            take_rows(each, rows) for each in (self.validation.y, self.validation.sample_weight)
        )
        return self.figures_on(replace(self.validation, y=y, sample_weight=weight))


def varies(values: np.ndarray) -> bool:
    """Say whether rows, shape (rows, ...), differ by more than rounding in any column; what is no
    number is left out.
    """
    flat = values.reshape(len(values), -1)
    if flat.dtype.kind not in "biuf":
        return bool((flat != flat[:1]).any())
    flat = np.where(np.isfinite(flat), flat, np.nan).astype("float64")
    lowest, highest = np.fmin.reduce(flat), np.fmax.reduce(flat)
    size = np.maximum(np.abs(lowest), np.abs(highest))
    return bool((highest - lowest > SAME * size).any())


def _is_lost(made: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Say of each column whether the mean would have predicted it many times better; of one that
    has holes, or one value in half of its rows, as an edge of images has, it is not known.
    """
    low, high = np.percentile(wanted, [25, 75], axis=0)
    error = np.square(made - wanted).mean(axis=0)
    return (high > low) & (error > LOST * wanted.var(axis=0))
