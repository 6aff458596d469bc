"""Numbers in the data that stand for what is not known: a -999, a 1e20, what a missing date becomes
as an integer.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace

import numpy as np

from nanfix.model.run import Sample
from nanfix.records.features import feature_table, short

Numbers = tuple[float, ...]

REPEATED = 3  # times at least, a code stands in a column; once or twice is an outlier
DISTINCT = 3  # values at least, a column has beside a code; two may be classes
# What NaN, a missing date and the like become as an integer.
LOWEST = {float(np.iinfo(kind).min): kind for kind in ("int32", "int64")}
WHOLE = 1.0  # is measured, however small the others: shares end there, and changes of them at -1
BEYOND = 10.0  # times the greatest of all others, a code can be no measured value


def codes(table: np.ndarray) -> dict[float, tuple[int, ...]]:
    """Return the values of a table (rows, features) that stand in several rows, farther from all
    others than these are from each other, each with the columns in which they do.
    """
    found: dict[float, list[int]] = {}
    for sign in (1.0, -1.0):
        turned = sign * table
        lowest = np.nanmin(turned, axis=0)
        others = np.where(turned > lowest, turned, np.nan)
        alone = np.isnan(others).all(axis=0)
        others[:, alone] = 0.0
        nearest, farthest = np.nanmin(others, axis=0), np.nanmax(others, axis=0)
        apart = (nearest - lowest > farthest - nearest) & (farthest > nearest)
        often = (turned == lowest).sum(axis=0) >= REPEATED
        for column in np.flatnonzero(apart & often):
            values = others[:, column]
            if len(np.unique(values[~np.isnan(values)])) >= DISTINCT:
                found.setdefault(float(sign * lowest[column]), []).append(int(column))
    return {value: tuple(columns) for value, columns in found.items()}


def likely_codes(table: np.ndarray) -> dict[float, tuple[int, ...]]:
    """Return of the `codes` of a table those that can hardly be measured, each with its columns:
    what is far greater than all others, or written with nines alone. A discount of 50 % or a change
    of -1 may be far from the others, too.
    """
    found = {
        code: columns if _is_of_nines(code) else _far_greater(table, code, columns)
        for code, columns in codes(table).items()
    }
    return {code: columns for code, columns in found.items() if columns}


def _is_of_nines(code: float) -> bool:
    digits = f"{abs(code):.10g}".replace(".", "")
    return len(digits) > 1 and set(digits) == {"9"}


def _far_greater(table: np.ndarray, code: float, columns: tuple[int, ...]) -> tuple[int, ...]:
    """Return the columns in which a code is what no measured value can be."""
    others = np.nanmax(np.where(table == code, np.nan, np.abs(table)), axis=0)
    return tuple(i for i in columns if code in LOWEST or abs(code) > max(BEYOND * others[i], WHOLE))


def target_codes(sample: Sample) -> tuple[float, ...]:
    """Return the numbers in the targets that can only stand for what is not known: they stand there
    several times, and are far greater than all others.
    """
    found = {code for array in sample.targets for code in _certain_codes(array)}
    return tuple(sorted(found))


def input_codes(
    inputs: Mapping[str, np.ndarray], masked: Collection[float] = ()
) -> dict[str, dict[int, float]]:
    """Return the numbers in inputs, by name, that can only stand for a missing value, as those of
    `target_codes`: by name of the input, by column. What is `masked` by the model itself is none.
    """
    found = {}
    for name, array in inputs.items():
        columns = {
            column: code
            for code, columns in _certain_codes(array).items()
            if code not in masked
            for column in columns
        }
        if columns:
            found[name] = columns
    return found


def each_code(sample: Sample) -> tuple[float, ...]:
    """Return the different numbers among the `codes` of a sample."""
    return tuple(sorted({code for columns in sample.codes.values() for code in columns.values()}))


def in_words(codes: Iterable[float]) -> str:
    return " and ".join(f"{code:g}" for code in codes)


def _certain_codes(array: np.ndarray) -> dict[float, tuple[int, ...]]:
    """Return the numbers of an array that are no measured values, as float32 has them, each with
    the columns in which it stands several times, far greater than all others.
    """
    if array.dtype.kind not in "fi" or not array.size:
        return {}
    table, found = feature_table(array), {}
    for code, columns in codes(np.where(np.isnan(table), 0.0, table)).items():
        certain = _far_greater(table, code, columns)
        if certain:
            found[float(str(np.float32(code)))] = certain  # with as few digits as tell it
    return found


def fillings(sample: Sample) -> dict[str, tuple[Numbers, Numbers]]:
    """Return for each input with codes, by name, what stands for a missing value and what fills it:
    a number per feature, of which both are the median where a feature has no code.
    """
    given = dict(zip(sample.names, with_holes(sample).inputs, strict=True)) if sample.codes else {}
    found = {}
    for name, columns in sample.codes.items():
        usual = medians(given[name])
        missing = tuple(columns.get(feature, number) for feature, number in enumerate(usual))
        found[name] = missing, usual
    return found


def medians(array: np.ndarray) -> tuple[float, ...]:
    """Return the median of the finite values of each feature of `array`, (rows, ..., features)."""
    return short(np.nanmedian(feature_table(as_trained(array)), axis=0))


def as_trained(array: np.ndarray) -> np.ndarray:
    """Return an array as float32, in which what is greater is inf."""
    with np.errstate(over="ignore"):
        return array.astype("float32")


def with_holes(sample: Sample) -> Sample:
    """Return the sample with NaN in the place of each code in its inputs."""
    inputs = list(sample.inputs)
    for index, name in enumerate(sample.names):
        for column, code in sample.codes.get(name or "", {}).items():
            array = inputs[index]
            features = np.arange(array.shape[-1] if array.ndim > 1 else 1)
            coded = (as_trained(array) == np.float32(code)) & (features == column)
            inputs[index] = np.where(coded, np.nan, array).astype(array.dtype)
    return replace(sample, inputs=tuple(inputs))


def without_codes(sample: Sample) -> Sample:
    """Return the sample with the median of all others in the place of each code."""
    inputs = [
        np.where(np.isnan(holed) & ~np.isnan(given), medians(holed), given).astype(given.dtype)
        if holed is not given
        else given
        for given, holed in zip(sample.inputs, with_holes(sample).inputs, strict=True)
    ]
    coded, targets = np.asarray(target_codes(sample), "float32"), []
    for array in sample.targets:
        unknown = np.isin(array.astype("float32"), coded) if len(coded) else np.zeros(1, bool)
        if unknown.any():
            known = array[~unknown]
            median = np.nanmedian(known) if known.size else 0
            array = np.where(unknown, median, array).astype(array.dtype)
        targets.append(array)
    return replace(sample, inputs=tuple(inputs), targets=tuple(targets))
