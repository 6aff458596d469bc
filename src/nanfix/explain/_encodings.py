"""Numbers in the data that stand for something else: a code for a missing value, a date, what is
left of an integer that overflowed.
"""

from collections.abc import Iterator

import numpy as np

from nanfix.explain.codes import LOWEST, likely_codes

CELLS = 1 << 22  # looked at, of an array
# Seconds since 1970, of 1985 and of 2050: what is measured seldom lies between them in every row.
FIRST, LAST = 473_385_600.0, 2_524_608_000.0
UNITS = {"seconds": 1.0, "milliseconds": 1e3, "microseconds": 1e6, "nanoseconds": 1e9}
CALENDAR = (19_000_101, 21_001_231)  # written as a number: year, month, day
MONTHS, DAYS = 12, 31


def encodings(array: np.ndarray) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield what numbers of an array, shape (rows, ..., features), stand for, each with the columns
    in which they do.
    """
    width = array.shape[-1] if array.ndim > 1 else 1
    step = max(1, int(array.size) // CELLS)
    table = np.asarray(array[::step]).reshape(-1, width).astype("float64")
    table = np.where(np.isfinite(table), table, np.nan)
    known = ~np.isnan(table).all(axis=0)
    numbers = np.where(known, table, 0.0)
    yield from _codes(numbers)
    yield from _overflowed(numbers)
    yield from _dates(numbers)


def _codes(table: np.ndarray) -> Iterator[tuple[str, tuple[int, ...]]]:
    """What may be codes for missing values, in words."""
    for value, columns in likely_codes(table).items():
        if value in LOWEST:
            words = f"{value:.10g}, which is what NaN or a missing date becomes as {LOWEST[value]}"
        else:
            words = f"{value:.7g} in several rows, far from all others: a code for a missing value?"
        yield words, columns


def _overflowed(table: np.ndarray) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Whole numbers that fill the range of an integer, from one end to the other."""
    low, high = np.nanmin(table, axis=0), np.nanmax(table, axis=0)
    whole = _whole(table)
    for lowest, kind in LOWEST.items():
        wide = (low < lowest / 2) & (high > -lowest / 2) & (low >= lowest) & (high <= -lowest)
        if (wide & whole).any():
            words = f"whole numbers all over the range of {kind}: has a sum or product overflowed?"
            yield words, tuple(map(int, np.flatnonzero(wide & whole)))


def _dates(table: np.ndarray) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Points in time since 1970, and days written as one number."""
    low, high = np.nanmin(table, axis=0), np.nanmax(table, axis=0)
    for unit, size in UNITS.items():
        inside = (low >= FIRST * size) & (high <= LAST * size) & (high > low)
        if inside.any():
            yield (
                f"what may be dates, as {unit} since 1970",
                tuple(map(int, np.flatnonzero(inside))),
            )
    likely = (low >= CALENDAR[0]) & (high <= CALENDAR[1]) & (high > low) & _whole(table)
    days = []
    for column in np.flatnonzero(likely):
        values = table[~np.isnan(table[:, column]), column].astype(int)
        month, day = values // 100 % 100, values % 100
        if ((month >= 1) & (month <= MONTHS) & (day >= 1) & (day <= DAYS)).all():
            days.append(int(column))
    if days:
        yield "dates written as one number, year, month and day", tuple(days)


def _whole(table: np.ndarray) -> np.ndarray:
    """Say of which columns all numbers are whole."""
    return ((table == np.floor(table)) | np.isnan(table)).all(axis=0)
