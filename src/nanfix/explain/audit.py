"""Look at data without training: holes, scales and labels, in one pass over what there is."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nanfix.data.arrays import NUMERIC
from nanfix.data.measured_targets import measured_targets
from nanfix.data.row_rules import finite_in_training
from nanfix.explain.oddities import CHUNK_ROWS, finite, remarks, usual
from nanfix.model.crossentropies import Targets, crossentropy_of
from nanfix.model.outputs import OUTPUT, class_count
from nanfix.model.run import Run
from nanfix.recorder.outset import falls_for_ever

NAMED = 3  # columns with holes are named up to so many


@dataclass(frozen=True)
class Audit:
    """What the data look like. `rows` are the rows with non-finite cells, of the user's arrays or
    of the failing batch.

    Scales are root mean squares over finite cells; `target_scale` is the largest one of targets
    that are measured values rather than classes, None without such, and `of_output` the name of
    their output, empty for a single one. `holes_ahead` says of rows with non-finite cells that
    training has not reached them yet but would fail of them. `remarks` are what else is odd, a
    sentence each, in so many rows as were `looked_at`, None for all there are. `hopeless` is the
    reason why these data cannot be learned from at all, or None.
    """

    batch_inputs_nonfinite: bool = False
    batch_targets_nonfinite: bool = False
    input_evidence: str = ""
    target_evidence: str = ""
    label_evidence: str = ""
    weight_evidence: str = ""
    rows: tuple[int, ...] = ()
    rows_of: str = "the batch"
    input_scale: float = 1.0
    input_peak: float = 1.0
    target_scale: float | None = None
    of_output: str = ""
    holes_ahead: bool = False
    remarks: tuple[str, ...] = ()
    looked_at: int | None = None
    hopeless: str | None = None

    @property
    def made_on_the_fly(self) -> bool:
        """Whether the data are made batch by batch, so that nobody knows all of them."""
        return self.looked_at is not None

    @property
    def target_words(self) -> str:
        """How large the targets are."""
        of = f" of output {self.of_output}" if self.of_output else ""
        return f"root mean square {self.target_scale or 1.0:.3g}{of}"


def audit(
    run: Run,
    inputs: list[np.ndarray],
    targets: list[np.ndarray],
    weights: list[np.ndarray],
    sampled_weights: Sequence[np.ndarray] = (),
    *,
    whole: bool,
    reached: bool = True,
) -> Audit:
    """Look at flattened inputs, targets and sample weights.

    Args:
        inputs: arrays of shape (rows, ...), the failing batch's or, with `whole`, all
            the user passed.
        targets, weights: the same for the targets and the sample weights.
        sampled_weights: those of the sample of the run.
        whole: whether these are the user's whole arrays, so that row numbers are theirs.
        reached: whether holes have reached the loss: a loss may leave them out.
    """
    sample, ordinary = run.sample, usual(run.sample)
    bad_inputs, bad_targets, bad_weights = _holes(inputs), _holes(targets), _holes(weights)
    outputs = _called("output", sorted(sample.target_names))  # as Keras flattens a dict
    scales = {
        each.name: root_mean_square(ordinary.targets[each.index]) for each in measured_targets(run)
    }
    largest = max(scales, key=lambda name: scales[name], default=None)
    return Audit(
        batch_inputs_nonfinite=bool(bad_inputs.size),
        batch_targets_nonfinite=bool(bad_targets.size),
        input_evidence=_counted("inputs", inputs, bad_inputs, _called("input", sample.names)),
        target_evidence=_counted("targets", targets, bad_targets, outputs),
        label_evidence=_labels(run, targets),
        weight_evidence=_counted("sample weights", weights, bad_weights, outputs)
        if bad_weights.size
        else "",
        rows=tuple(
            int(row)
            for row in next((bad for bad in (bad_inputs, bad_targets) if bad.size), bad_weights)
        ),
        rows_of="the data" if whole else "the batch",
        input_scale=max(map(root_mean_square, ordinary.measured), default=1.0),
        input_peak=max(
            (float(np.nanmax(np.abs(finite(a)))) for a in sample.measured if a.size), default=1.0
        ),
        target_scale=None if largest is None else scales[largest],
        of_output="" if largest in (None, OUTPUT) else largest,
        remarks=tuple(
            remarks(run, inputs, targets)
            if whole
            else remarks(run, list(sample.inputs), list(sample.targets), whole=False)
        ),
        looked_at=None if whole else max(map(len, sample.inputs), default=0),
        hopeless=_hopeless(run)
        or (
            _no_row_left(run, bad_targets, targets, bad_weights, weights, list(sampled_weights))
            if reached
            else None
        ),
    )


def _holes(arrays: list[np.ndarray]) -> np.ndarray:
    """Return the rows in which any array has a non-finite cell."""
    found: list[np.ndarray] = []
    for array in arrays:
        if getattr(array, "dtype", np.dtype("O")).kind != "f":
            continue
        for start in range(0, len(array), CHUNK_ROWS):
            part = np.asarray(array[start : start + CHUNK_ROWS])
            bad = ~finite_in_training(part).reshape(len(part), -1).all(axis=1)
            found.append(np.flatnonzero(bad) + start)
    return np.unique(np.concatenate(found)) if found else np.empty(0, int)


def _counted(
    name: str, arrays: list[np.ndarray], rows: np.ndarray, called: Sequence[str] = ()
) -> str:
    if not rows.size:
        return f"the {name} are finite"
    cells = {
        index: np.asarray(array)[rows[rows < len(array)]]
        for index, array in enumerate(arrays)
        if array.dtype.kind == "f"
    }
    bad = {index: ~finite_in_training(part) for index, part in cells.items()}
    nan = sum(int(np.isnan(part).sum()) for part in cells.values())
    low = sum(int((part == -np.inf).sum()) for part in cells.values())
    inf = sum(int(part.sum()) for part in bad.values()) - nan
    infinite = "-inf" if low == inf else "inf"
    counts = " and ".join(
        f"{count} {word}" for count, word in ((nan, "NaN"), (inf, infinite)) if count
    )
    words = f"{counts} in {rows.size} of {max(len(array) for array in arrays)} rows of the {name}"
    with_holes = {index: part for index, part in bad.items() if part.any()}
    if len(with_holes) != 1:
        return words
    (index, part), *_ = with_holes.items()
    known = called[index] if len(arrays) > 1 and len(called) == len(arrays) else ""
    found = [_columns(part), known]
    where = " of ".join(each for each in found if each)
    return f"{words}, all of them in {where}" if where else words


def _called(kind: str, names: Sequence[str | None]) -> list[str]:
    return ["" if name is None else f"{kind} {name}" for name in names]


def _columns(bad: np.ndarray) -> str:
    """Return in which columns of a table, or of a sequence of rows, the cells are that are bad;
    nothing where they are in many.
    """
    if bad.ndim not in (2, 3) or bad.shape[-1] < 2:
        return ""
    columns = np.flatnonzero(bad.any(axis=tuple(range(bad.ndim - 1))))
    if len(columns) > NAMED:
        return ""
    word = "column" if len(columns) == 1 else "columns"
    return f"{word} {', '.join(map(str, columns))}"


def _labels(run: Run, targets: list[np.ndarray]) -> str:
    """Say which class labels the output layer has no unit for, or a crossentropy no share; empty
    when all fit.

    A negative share of one class among several may be meant, as an advantage of a policy is, unless
    the loss was seen to fall for ever with it.
    """
    crossentropy, classes = crossentropy_of(run.user_loss), class_count(run)
    if not targets or targets[0].dtype.kind not in NUMERIC or crossentropy is None:
        return ""
    labels = np.asarray(targets[0])
    labels = labels[np.isfinite(labels)]
    if not labels.size:
        return ""
    low, high = labels.min(), labels.max()
    if crossentropy.targets is Targets.EACH and (low < 0 or high > 1):
        return f"labels run from {low:g} to {high:g}, and the loss takes 0 to 1"
    if crossentropy.targets is Targets.SHARES and low < 0 and falls_for_ever(run.model):
        return f"labels are as low as {low:g}, and with them the loss has fallen for ever"
    if classes is not None and (low < 0 or high >= classes):
        return (
            f"labels run from {low:g} to {high:g}, the output layer has classes 0 to {classes - 1}"
        )
    return ""


def _hopeless(run: Run) -> str | None:
    if run.sample.inputs and not any(map(len, run.sample.inputs)):
        return (
            "no batch of the data has a row, so there is nothing to learn from; look at what "
            "selects the rows"
        )
    targets = [array for array in run.sample.targets if array.dtype.kind == "f" and array.size]
    if targets and not any(np.isfinite(array).any() for array in targets):
        return (
            "every target is NaN or inf, so there is nothing to learn; the labels have to be "
            "found again"
        )
    inputs = [array for array in run.sample.inputs if array.size]
    if inputs and all(array.dtype.kind == "f" and not np.isfinite(array).any() for array in inputs):
        return (
            "every input value is NaN or inf, so there is nothing to learn from; the features "
            "have to be found again"
        )
    return None


def _no_row_left(
    run: Run,
    bad_targets: np.ndarray,
    targets: list[np.ndarray],
    bad_weights: np.ndarray,
    weights: list[np.ndarray],
    sampled_weights: list[np.ndarray],
) -> str | None:
    """Say whether no row has all of its targets, or a weight: nothing fills these, and no row is
    left when the others are left out. So it is in the sample, and in what was looked at.

    A loss of Keras' own can leave single targets out, where each output has some.
    """
    sampled = list(run.sample.targets)
    if run.has_stock_objective and all(_has_finite(array) for array in sampled):
        sampled = []
    for what, bad, arrays, others in (
        ("target in every output", bad_targets, targets, sampled),
        ("sample weight", bad_weights, weights, sampled_weights),
    ):
        if _all_bad(bad, arrays) and _all_bad(_holes(others), others):
            return f"no row has a finite {what}, so there is nothing to learn from"
    return None


def _has_finite(array: np.ndarray) -> bool:
    return array.dtype.kind != "f" or bool(finite_in_training(array).any())


def _all_bad(bad: np.ndarray, arrays: list[np.ndarray]) -> bool:
    return bool(arrays) and 0 < max(map(len, arrays)) == bad.size


def root_mean_square(array: np.ndarray) -> float:
    """Return the largest root mean square of a feature, over its finite cells; at least 1."""
    if array.dtype.kind not in "fiu" or not array.size:
        return 1.0
    width = array.shape[-1] if array.ndim > 1 else 1
    squares = np.square(finite(array)).reshape(-1, width).sum(axis=0)
    cells = np.isfinite(array).reshape(-1, width).sum(axis=0)
    return max(1.0, float(np.sqrt(squares / np.maximum(cells, 1)).max()))
