"""What a trained model predicts for single rows, beside what it predicts for others."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from keras import tree

from nanfix.data.arrays import flat_arrays, rows_in, take_rows
from nanfix.data.constant_prediction import in_order
from nanfix.data.training_data import TrainingData

# Times that targets are dealt out anew, so that their mean is no chance, and that one row's are
# given to all; among few rows most get what they had, or the like.
DEALS, ALIKE, FEWEST = 8, 3, 16
MOST = 256  # rows that are looked at
SAME = 1e-6  # share of the largest by which rounding makes predictions differ that are the same


Figures = dict[str, float]  # what Keras reports of a model, by its names


def dealt_out(
    validation: TrainingData, figures_on: Callable[[TrainingData], Figures]
) -> list[Figures]:
    """Return the figures with the targets dealt out anew among the rows, several times; none where
    rows are few, or no arrays.

    A model that predicts the same for all rows comes to the same loss, whatever the loss is.
    """
    count, rng = _targets(validation), np.random.default_rng(0)
    return [
        figures_on(_given(validation, rng.permutation(count))) for _ in range(DEALS if count else 0)
    ]


def all_alike(
    validation: TrainingData, figures_on: Callable[[TrainingData], Figures]
) -> list[Figures]:
    """Return the figures with the targets of a single row for all, of a few rows; none where
    `dealt_out` has none. A loss that stays the same does not look at the targets.
    """
    count = _targets(validation)
    rows = np.random.default_rng(1).integers(0, count, ALIKE) if count else ()
    return [figures_on(_given(validation, np.full(count, row))) for row in rows]


def _targets(validation: TrainingData) -> int:
    count = rows_in(validation.y) or 0 if validation.is_arrays and validation.y is not None else 0
    return count if count >= FEWEST else 0


def _given(validation: TrainingData, rows: np.ndarray) -> TrainingData:
    y, weight = take_rows(validation.y, rows), take_rows(validation.sample_weight, rows)
    return replace(validation, y=y, sample_weight=weight)


def lifeless(model: Any, validation: TrainingData) -> list[str]:
    """Return the outputs that are the very same for all of the first rows, though their targets are
    not; an only output is called "output".
    """
    if not validation.is_arrays or validation.y is None or (rows_in(validation.x) or 0) < FEWEST:
        return []
    x, y = (take_rows(part, slice(0, MOST)) for part in (validation.x, validation.y))
    outputs = [np.asarray(leaf) for leaf in tree.flatten(model(x, training=False))]
    names: list[str] = (
        list(getattr(model, "output_names", None) or ()) if len(outputs) > 1 else ["output"]
    )
    targets = in_order(flat_arrays(y), y, names)
    if not len(names) == len(outputs) == len(targets):
        return []
    given = zip(names, outputs, targets, strict=True)
    return [name for name, made, wanted in given if not varies(made) and varies(wanted)]


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
