"""What is odd about data or about how they meet the model, whether or not it is why a
training failed.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from nanfix.changes.maps import Affine
from nanfix.changes.rows import RowFilter
from nanfix.data.row_rules import keep
from nanfix.explain._encodings import encodings
from nanfix.explain.codes import without_codes
from nanfix.model.crossentropies import (
    PERCENTAGES,
    SMALLEST,
    has_negative_shares,
    loss_name,
)
from nanfix.model.run import Run, Sample
from nanfix.private.objects import all_layers
from nanfix.records.features import feature_table, short, some_cells

CHUNK_ROWS = 65_536  # looked at in one go: 0.5 MB for each feature, in float64
SAMPLED_ROWS = 4096  # of an array, from which the median and its deviation are taken
# Robust standard deviations from the median. Ratios and counts with long tails reach 50, and there
# a value is only remarked on; 1000 is beyond any tail, and such a value may be why a step fails;
# within 10 lies what a scale should be measured on.
FAR, FAR_OUT, USUAL_DEVIATIONS = 50.0, 1000.0, 10.0
# What is no larger does no harm however small the others are: probabilities of rare classes.
HARMLESS = 1.0
# Times the median magnitude of a column. One scale for so wide a range leaves most of its values
# within 1e-4 of each other, where a network tells them apart no more.
HUGE_RANGE = 1e4
FEW = 0.05  # share of the rows: outliers are at most so many; more are how the data are
# Standard deviations in a median absolute deviation, for normally distributed values.
DEVIATION = 1.4826
HALF_MAX = 65_504.0  # the largest finite float16
SHOWN = 5  # rows or columns named in a sentence, which is to stay one line
PER_SAMPLE = ("LayerNormalization", "UnitNormalization", "GroupNormalization")


@dataclass(frozen=True)
class Columns:
    """What one pass over an array showed, per column (feature on the last axis), over
    its finite cells.
    """

    constant: tuple[int, ...]
    lost: tuple[int, ...]
    wide: tuple[int, ...]
    outlying_rows: tuple[int, ...]
    zero_rows: int
    peak: float
    count: int


@dataclass(frozen=True)
class _Part:
    """One array of the inputs or of the targets; `name` is its own, where there are several."""

    kind: str
    name: str | None
    array: np.ndarray

    @property
    def words(self) -> str:
        return f"the {self.kind}s" if self.name is None else f"{self.kind} {self.name}"

    def columns(self, numbers: tuple[int, ...]) -> str:
        single = self.array.ndim < 2 or self.array.shape[-1] == 1
        if self.name is not None and single:
            return self.words
        return f"{_named(numbers, 'column')} of {self.words}"


def remarks(
    run: Run, inputs: list[np.ndarray], targets: list[np.ndarray], *, whole: bool = True
) -> Iterator[str]:
    """Yield a sentence for everything odd about the inputs, the targets, and how the
    model takes them.

    Numbers by which something is looked up, such as tokens, have no scale to be odd about. Where
    these are not the `whole` data, but some batches of a stream, nothing is said of what others may
    hold.
    """
    normalized = [
        type(layer).__name__
        for layer in all_layers(run.model)
        if type(layer).__name__ in PER_SAMPLE
    ]
    half = "float16" in str(getattr(run.model.dtype_policy, "compute_dtype", ""))
    known = [
        part
        for part in (*_inputs(run.sample, inputs), *_targets(run.sample, targets))
        if part.array.dtype.kind in "fiu" and part.array.ndim and len(part.array)
    ]
    yield from _parts_of_nothing(run, targets)
    for part in known:  # first, since of what is odd only the first is printed
        for words, columns in encodings(part.array):
            yield f"{words} ({part.columns(columns)})"
    for part in known:
        yield from _of_array(part, normalized, half, whole=whole)
    yield from _negative_shares(run, targets)
    if whole:
        yield from _last_batch(run, inputs)


def _of_array(part: _Part, normalized: list[str], half: bool, *, whole: bool) -> Iterator[str]:
    seen, is_input = look(part.array), part.kind == "input"
    if seen.lost and is_input:
        lost = (
            ": what was there is lost, and only the line that made it so can bring it back"
            if whole
            else ""
        )
        yield f"no finite value {'at all ' if whole else ''}in {part.columns(seen.lost)}{lost}"
    if seen.constant and is_input and len(seen.constant) < seen.count:
        yield f"the same value in every row in {part.columns(seen.constant)}"
    if seen.wide:
        yield f"values over {HUGE_RANGE:.0e} times the usual one in {part.columns(seen.wide)}"
    if seen.outlying_rows:
        where = f"{_named(seen.outlying_rows, 'row')} of {part.words}"
        yield f"values over {FAR:.0f} robust standard deviations from the median in {where}"
    if seen.zero_rows and normalized and is_input:
        yield (
            f"{seen.zero_rows} rows of {part.words} are all zero, and {normalized[0]} "
            "divides by their deviation"
        )
    if half and seen.peak > HALF_MAX:
        reach = "reach" if part.name is None else "reaches"
        yield f"{part.words} {reach} {seen.peak:.3g}, beyond float16's {HALF_MAX:.0f}"


def _inputs(sample: Sample, inputs: list[np.ndarray]) -> list[_Part]:
    """Return the inputs whose numbers mean a quantity, all of them where that is not known."""
    marks = sample.quantities if len(sample.quantities) == len(inputs) else [True] * len(inputs)
    parts = _parts("input", sample.names, inputs)
    return [part for part, quantity in zip(parts, marks, strict=True) if quantity]


def _targets(sample: Sample, targets: list[np.ndarray]) -> list[_Part]:
    return _parts("target", sorted(sample.target_names), targets)  # as Keras flattens a dict


def _parts(kind: str, names: Sequence[str | None], arrays: list[np.ndarray]) -> list[_Part]:
    known = names if len(arrays) > 1 and len(names) == len(arrays) else [None] * len(arrays)
    return [_Part(kind, name, array) for name, array in zip(known, arrays, strict=True)]


def look(array: np.ndarray) -> Columns:
    """Go once over an array in chunks; what is usual in a column is judged by a sample
    of its rows.
    """
    width = array.shape[-1] if array.ndim > 1 else 1
    sample = feature_table(some_cells(np.asarray(array[:: max(1, len(array) // SAMPLED_ROWS)])))
    center = np.nanmedian(sample, axis=0)
    spread = DEVIATION * np.nanmedian(np.abs(sample - center), axis=0)
    usual = np.nanmedian(np.abs(sample), axis=0)
    low, high = np.full(width, np.inf), np.full(width, -np.inf)
    outlying, zeros, known = [], 0, np.zeros(width, bool)
    for start in range(0, len(array), CHUNK_ROWS):
        given = np.asarray(array[start : start + CHUNK_ROWS])
        known |= np.isfinite(given).reshape(-1, width).any(axis=0)
        part = finite(given)
        cells = part.reshape(-1, width)
        low, high = np.minimum(low, cells.min(axis=0)), np.maximum(high, cells.max(axis=0))
        away = np.where(np.isfinite(given), np.abs(part - center), 0.0)
        far = (away > FAR * spread) & (spread > 0) & (np.abs(part) > HARMLESS)
        outlying.append(np.flatnonzero(far.reshape(len(part), -1).any(axis=1)) + start)
        zeros += int((given == 0).reshape(len(given), -1).all(axis=1).sum())
    peak = np.maximum(np.abs(low), np.abs(high))
    return Columns(
        constant=tuple(int(i) for i in np.flatnonzero((low == high) & known)),
        lost=tuple(int(i) for i in np.flatnonzero(~known)),
        wide=tuple(int(i) for i in np.flatnonzero((usual > 0) & (peak > HUGE_RANGE * usual))),
        outlying_rows=tuple(int(i) for i in np.concatenate(outlying)),
        zero_rows=zeros,
        peak=float(peak.max()),
        count=width,
    )


def bands(sample: Sample, z: float) -> tuple[tuple[int, Affine], ...]:
    """Return the band in which the values of each feature are usual, for each array of floats,
    inputs first and then targets.

    It is median +- z * 1.4826 * median absolute deviation, the mean absolute deviation where most
    values are the same, and holds all from -1 to 1.
    """
    arrays = enumerate([*sample.inputs, *sample.targets])
    return tuple(
        (index, _band(array, z))
        for index, array in arrays
        if array.dtype.kind == "f" and array.size
    )


def outlying_share(sample: Sample) -> float:
    """Return the share of the rows of the sample that have a value `FAR_OUT` of what is
    usual for its feature.
    """
    return 1.0 - float(
        keep(RowFilter(bands=bands(sample, FAR_OUT)), sample.inputs, sample.targets).mean()
    )


def usual(sample: Sample) -> Sample:
    """Return the sample without codes and with what lies far out in a few rows drawn in, so that a
    scale is that of all others.
    """
    sample = without_codes(sample)
    if not 0.0 < outlying_share(sample) <= FEW:
        return sample
    arrays, count = [*sample.inputs, *sample.targets], len(sample.inputs)
    for index, band in bands(sample, USUAL_DEVIATIONS):
        low, high = np.subtract(band.center, band.scale), np.add(band.center, band.scale)
        arrays[index] = np.clip(arrays[index], low, high).astype(arrays[index].dtype)
    return replace(sample, inputs=tuple(arrays[:count]), targets=tuple(arrays[count:]))


def _band(array: np.ndarray, z: float) -> Affine:
    table = feature_table(some_cells(array))
    center = np.nanmedian(table, axis=0)
    away = np.abs(table - center)
    spread = DEVIATION * np.nanmedian(away, axis=0)
    spread = np.where(spread > 0, spread, np.nanmean(away, axis=0))
    # A constant feature has no outliers.
    wide = np.maximum(z * spread, HARMLESS + np.abs(center))
    width = np.where(spread > 0, wide, np.finfo("float32").max)
    return Affine(short(center), short(width))


def finite(array: np.ndarray) -> np.ndarray:
    """Return the values as float64, 0 where they are not finite."""
    values = array.astype("float64")
    return np.where(np.isfinite(values), values, 0.0)


def _negative_shares(run: Run, targets: list[np.ndarray]) -> Iterator[str]:
    """Shares of classes that are below 0, as of a policy gradient with negative rewards."""
    if not has_negative_shares(run.user_loss, targets):
        return
    lowest = min(finite(array).min() for array in targets if array.size)
    if lowest < 0:
        yield f"targets as low as {lowest:g}, and below 0 a crossentropy has no lower bound"


def _parts_of_nothing(run: Run, targets: list[np.ndarray]) -> Iterator[str]:
    """Targets of 0 under an error in percent of them."""
    if loss_name(run.user_loss) != PERCENTAGES or len(targets) != 1:
        return
    zeros = int(np.sum(np.abs(targets[0].astype("float64")) < SMALLEST))
    if zeros:
        yield (
            f"{zeros} of {targets[0].size} targets are 0, and {PERCENTAGES} divides by them, so "
            "that they are all that counts: take another loss, such as mean_absolute_error, or "
            "leave these rows out"
        )


def _last_batch(run: Run, inputs: list[np.ndarray]) -> Iterator[str]:
    """A last batch of a single row under batch normalization."""
    batched = any(type(layer).__name__ == "BatchNormalization" for layer in all_layers(run.model))
    if batched and run.sample.batch_size and inputs and len(inputs[0]) % run.sample.batch_size == 1:
        yield (
            "the last batch of an epoch has a single row, over which BatchNormalization has no "
            "variance"
        )


def _named(numbers: tuple[int, ...], word: str) -> str:
    shown = ", ".join(map(str, numbers[:SHOWN]))
    more = ", ..." if len(numbers) > SHOWN else ""
    return f"{word} {shown}" if len(numbers) == 1 else f"{len(numbers)} {word}s ({shown}{more})"
