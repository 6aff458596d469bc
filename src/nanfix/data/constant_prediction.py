"""What always predicting the same reaches: the baseline that a repair has to beat."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from nanfix.data.arrays import flat_arrays
from nanfix.data.training_data import TrainingData
from nanfix.model.crossentropies import (
    PROBABILITIES,
    Targets,
    UserLoss,
    crossentropy_of,
    loss_name,
    takes_logits,
)
from nanfix.model.outputs import Output, in_order, output_names, outputs_of
from nanfix.model.run import Run
from nanfix.private.keras import CompileLoss
from nanfix.private.objects import given_loss_weights

# The best constant prediction under a loss.
CENTERS: Mapping[str, Callable[..., Any]] = {
    "mean_squared_error": np.mean,
    "mean_absolute_error": np.median,
}

FEWEST = 10  # rows with a target, to learn a constant and to judge it; of fewer it is chance


def constant_losses(run: Run, validation: TrainingData) -> dict[str, float]:
    """Return the loss on the validation data of always predicting the same: mean, median, or class
    frequencies. By the names under which Keras logs them: "loss", and that of each of several
    outputs.

    What is not known is left out: without targets, or where the best constant of a loss is not one
    of these.
    """
    outputs = list(outputs_of(run))
    truth = flat_arrays(validation.y) if validation.is_arrays else []
    if not (len(outputs) == len(truth) == len(run.sample.targets)):
        return {}
    names = output_names(run.model)
    truth, targets = (in_order(a, validation.y, names) for a in (truth, list(run.sample.targets)))
    weights = in_order(flat_arrays(validation.sample_weight), validation.sample_weight, names)
    each = [weights[0] if len(weights) == 1 else None] * len(outputs)
    if len(weights) == len(outputs):
        each = list(weights)
    found = [_constant_loss(*given) for given in zip(outputs, targets, truth, each, strict=True)]
    known = {o.logged: loss for o, loss in zip(outputs, found, strict=True) if loss is not None}
    if len(outputs) > 1 and len(known) == len(outputs) and given_loss_weights(run.model) is None:
        known["loss"] = sum(known.values())
    return known


def _constant_loss(
    output: Output, targets: np.ndarray, y: np.ndarray, weights: np.ndarray | None
) -> float | None:
    """Return the loss of the best constant for one output on the targets `y`, learned from a sample
    of those trained on; None where it is not known.
    """
    constant = _best_constant(output, targets)
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


def _best_constant(output: Output, targets: np.ndarray) -> np.ndarray | None:
    """Return the best constant for one output, flat; None where it is not known."""
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
