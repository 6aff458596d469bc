"""Arrays as tables of features, and their numbers as people read them."""

from collections.abc import Iterable

import numpy as np

CELLS = 2**20  # of which medians, moments and powers are taken, however many there are
FEWEST = 64  # rows of a table, of so many features that they are more cells


def feature_table(array: np.ndarray) -> np.ndarray:
    """Return `array`, shape (rows, ..., features), as a float64 table of features, NaN
    where a cell is not finite.

    A feature of which no cell is finite gets 0 throughout.
    """
    table = _flat(array).astype("float64")
    table = np.where(np.isfinite(table), table, np.nan)
    table[:, np.isnan(table).all(axis=0)] = 0.0  # nothing is known of these; numpy warns of them
    return table


def some_cells(array: np.ndarray) -> np.ndarray:
    """Return rows of the table of features, spread over all of it: enough for the median, moments
    and power of each feature, which so take no longer for larger data.
    """
    table = _flat(array)
    count, kept = len(table), max(FEWEST, CELLS // max(table.shape[1], 1))
    if count <= kept:
        return table
    # One row of each part of the table. Were they equally far from each other, they could all be
    # the same frame of a clip.
    within = np.random.default_rng(0).random(kept)
    return table[((np.arange(kept) + within) * (count / kept)).astype(int)]


def short(numbers: Iterable[float]) -> tuple[float, ...]:
    """Keep as many digits as a float32 holds: the numbers are read by people."""
    return tuple(float(f"{number:.7g}") for number in numbers)


def _flat(array: np.ndarray) -> np.ndarray:
    return array.reshape(-1, array.shape[-1] if array.ndim > 1 else 1)
