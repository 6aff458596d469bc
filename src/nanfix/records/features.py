"""Arrays as tables of features, and their numbers as people read them."""

from collections.abc import Iterable

import numpy as np


def feature_table(array: np.ndarray) -> np.ndarray:
    """Return `array`, shape (rows, ..., features), as a float64 table of features, NaN
    where a cell is not finite.

    A feature of which no cell is finite gets 0 throughout.
    """
    table = array.reshape(-1, array.shape[-1] if array.ndim > 1 else 1).astype("float64")
    table = np.where(np.isfinite(table), table, np.nan)
    table[:, np.isnan(table).all(axis=0)] = 0.0  # nothing is known of these; numpy warns of them
    return table


def short(numbers: Iterable[float]) -> tuple[float, ...]:
    """Keep as many digits as a float32 holds: the numbers are read by people."""
    return tuple(float(f"{number:.7g}") for number in numbers)
