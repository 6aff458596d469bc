"""What always predicting the same reaches: the baseline that a repair has to beat."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from nanfix.data.arrays import flat_arrays
from nanfix.data.training_data import TrainingData
from nanfix.model.crossentropies import (
    PERCENTAGES,
    PROBABILITIES,
    SMALLEST,
    Targets,
    UserLoss,
    crossentropy_of,
    has_negative_shares,
    loss_name,
    takes_logits,
)
from nanfix.model.outputs import Output, in_order, loss_weights, output_names, outputs_of
from nanfix.model.refusals import REFUSED
from nanfix.model.run import Run
from nanfix.private.keras import CompileLoss


def _center_of_percentages(targets: np.ndarray, axis: int = 0) -> np.ndarray:
    """Return the median in which each target weighs 1 / |y|, as its error does: 0 as soon as a few
    targets are 0.
    """
    weights = 1.0 / np.maximum(np.abs(targets.astype("float64")), keras.config.epsilon())
    order = np.argsort(targets, axis=axis)
    targets, weights = (np.take_along_axis(a, order, axis) for a in (targets, weights))
    half = np.cumsum(weights, axis=axis) >= 0.5 * weights.sum(axis=axis, keepdims=True)
    first = np.expand_dims(np.argmax(half, axis=axis), axis)
    return np.take_along_axis(targets, first, axis).squeeze(axis)


def _center_of_logarithms(targets: np.ndarray, axis: int = 0) -> np.ndarray:
    return np.expm1(np.mean(np.log1p(np.maximum(targets, 0.0)), axis=axis))


# The best constant prediction under a loss.
CENTERS: Mapping[str, Callable[..., Any]] = {
    "mean_squared_error": np.mean,
    "mean_absolute_error": np.median,
    PERCENTAGES: _center_of_percentages,
    "mean_squared_logarithmic_error": _center_of_logarithms,
}

DEFAULT_BATCH = 32  # rows, as Keras has it
FEWEST = 10  # rows with a target, to learn a constant and to judge it; of fewer it is chance


def constant_losses(run: Run, validation: TrainingData) -> dict[str, float]:
    """Return the loss on the validation data of always predicting the same: mean, median, or class
    frequencies. By the names under which Keras logs them: "loss", and that of each of several
    outputs.

    What is not known is left out: without targets, or where the best constant of a loss is not one
    of these.
    """
    outputs = list(outputs_of(run))
    given = _given(run, outputs, validation)
    weights = in_order(
        flat_arrays(validation.sample_weight), validation.sample_weight, output_names(run)
    )
    each = [weights[0] if len(weights) == 1 else None] * len(outputs)
    if len(weights) == len(outputs):
        each = list(weights)
    found = {
        output.logged: _constant_loss(output, targets, truth, weight)
        for (output, targets, truth), weight in zip(given, each, strict=False)
    }
    known = {name: loss for name, loss in found.items() if loss is not None}
    if outputs and len(known) == len(outputs):
        weights = loss_weights(run, len(outputs))
        known["loss"] = sum(w * loss for w, loss in zip(weights, known.values(), strict=True))
    return known


def mean_losses(run: Run, validation: TrainingData) -> dict[str, float]:
    """Return the loss of always predicting the mean, or the median, of the targets, or the shares
    of their classes, whichever is lowest, for each output with a loss of the user's own that can
    predict them.

    Not the best constant, but one that whatever has learned is better than. By the names that
    `constant_losses` has; of batches as they are trained on, without sample weights. Where the loss
    overflows in single precision, which a fix may mend, it is computed in double.
    """
    size = run.sample.batch_size or DEFAULT_BATCH
    found: dict[str, float] = {}
    for output, targets, truth in _given(run, list(outputs_of(run)), validation):
        own = loss_name(output.loss) not in CENTERS and crossentropy_of(output.loss) is None
        known, judged = targets[_finite_rows(targets)], truth[_finite_rows(truth)]
        alike = known.shape[1:] == judged.shape[1:]
        if not (own and alike and min(len(known), len(judged)) >= FEWEST):
            continue
        centers = _centers(output, known)
        losses = [_in_batches(output.loss, each, judged, size) for each in centers]
        if not np.isfinite(losses).any():
            losses = [_in_double(output.loss, each, judged) for each in centers]
        finite = [loss for loss in losses if np.isfinite(loss)]
        found |= {output.logged: min(finite)} if finite else {}
    if "loss" in found:
        found["loss"] *= loss_weights(run, 1)[0]
    return found


def _centers(output: Output, targets: np.ndarray) -> list[np.ndarray]:
    """Return what an output can always predict of its targets: their mean and median, or where they
    are the indices of classes the shares of these, and as logits where it can give such.
    """
    shape, classes = output.shape, output.shape[-1] if output.shape else 1
    if targets.shape[1:] in {shape, shape[:-1] if classes == 1 else shape}:
        return [center(targets, axis=0).reshape(shape) for center in (np.mean, np.median)]
    indices = targets.reshape(len(targets), -1)
    if indices.shape[1] != math.prod(shape[:-1]) or not _are_classes(indices, classes):
        return []
    counts = np.bincount(indices.astype(int).reshape(-1), minlength=classes)
    shares = np.broadcast_to(counts / counts.sum(), shape)
    linear = output.activation == "linear"
    return [shares, np.log(np.maximum(shares, SMALLEST))] if linear else [shares]


def _are_classes(targets: np.ndarray, count: int) -> bool:
    """Say whether targets are the indices of `count` classes."""
    whole = targets.dtype.kind in "iub" or bool((targets == np.round(targets)).all())
    return whole and bool(((targets >= 0) & (targets < count)).all())


def _given(
    run: Run, outputs: list[Output], validation: TrainingData
) -> list[tuple[Output, np.ndarray, np.ndarray]]:
    """Return for each output the targets that were trained on and those to be judged by; nothing
    where they cannot be told apart.
    """
    truth = flat_arrays(validation.y) if validation.is_arrays else []
    if not (len(outputs) == len(truth) == len(run.sample.targets)):
        return []
    names = output_names(run)
    truth, targets = (in_order(a, validation.y, names) for a in (truth, list(run.sample.targets)))
    return list(zip(outputs, targets, truth, strict=True))


def _in_batches(loss: UserLoss, constant: np.ndarray, y: np.ndarray, size: int) -> float:
    """Return the mean loss of a constant; NaN where it is not a loss of such a thing."""
    compiled, total = CompileLoss(loss=loss), 0.0
    for start in range(0, len(y), size):
        rows = y[start : start + size]
        prediction = np.broadcast_to(constant, (len(rows), *constant.shape)).astype("float32")
        try:
            total += float(compiled(rows, prediction)) * len(rows)
        except REFUSED:
            return float("nan")
    return total / len(y)


def _in_double(loss: UserLoss, constant: np.ndarray, y: np.ndarray) -> float:
    """Return the mean loss of a constant in double precision; NaN where it takes no such thing."""
    computed = loss.call if isinstance(loss, keras.Loss) else loss
    rows = y.astype("float64")
    prediction = np.broadcast_to(constant, (len(rows), *constant.shape)).astype("float64")
    alike = rows.reshape(prediction.shape) if rows.size == prediction.size else rows
    try:
        return float(np.mean(computed(tf.constant(alike), tf.constant(prediction))))
    except REFUSED:
        return float("nan")


def _constant_loss(
    output: Output, targets: np.ndarray, y: np.ndarray, weights: np.ndarray | None
) -> float | None:
    """Return the loss of the best constant for one output on the targets `y`, learned from a sample
    of those trained on; None where it is not known.
    """
    constant = best_constant(output, targets)
    kept = _finite_rows(y)
    y = y[kept]
    if constant is None or len(y) < FEWEST:
        return None
    if _takes_classes(output.loss) and not ((y >= 0) & (y < output.shape[-1])).all():
        return None
    prediction = np.broadcast_to(constant, (len(y), constant.size))
    prediction = prediction.reshape(len(y), *output.shape).astype("float32")
    if y.ndim == prediction.ndim - 1 and not _takes_classes(output.loss):
        y = y[..., None]
    given = None if weights is None else weights[kept]
    loss = float(CompileLoss(loss=output.loss)(y, prediction, given))
    return loss if np.isfinite(loss) else None


def best_constant(output: Output, targets: np.ndarray) -> np.ndarray | None:
    """Return the best constant for one output, flat; None where it is not known. Of shares below 0
    there is none: it lies at the edge of what a probability can be.
    """
    if has_negative_shares(output.loss, [targets]):
        return None
    name, crossentropy = loss_name(output.loss), crossentropy_of(output.loss)
    probabilities = output.activation in PROBABILITIES
    # Then those of the classes are the best constant.
    shares = crossentropy is not None and not crossentropy.focal
    if not (name in CENTERS or shares or probabilities):
        return None
    if _takes_classes(output.loss):
        classes = output.shape[-1]
        targets = np.eye(classes)[np.clip(targets.reshape(-1).astype(int), 0, classes - 1)]
    targets = targets[_finite_rows(targets)]
    if len(targets) < FEWEST:
        return None
    constant = CENTERS.get(name, np.mean)(targets, axis=0).reshape(-1)
    if takes_logits(output.loss):
        constant = None if crossentropy is None else crossentropy.logits(constant)
    elif crossentropy is not None and not probabilities:
        constant = None
    fits = constant is not None and constant.size == int(np.prod(output.shape))
    return constant if fits else None


def _takes_classes(loss: UserLoss) -> bool:
    """Say whether the targets of a loss are the indices of classes."""
    crossentropy = crossentropy_of(loss)
    return crossentropy is not None and crossentropy.targets is Targets.CLASS


def _finite_rows(array: np.ndarray) -> np.ndarray:
    return np.asarray(np.isfinite(array.astype("float64").reshape(len(array), -1)).all(axis=1))
