"""What always predicting the same reaches: the baseline that a repair has to beat."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import tree

from nanfix.data.arrays import flat_arrays
from nanfix.data.training_data import TrainingData
from nanfix.model.activations import activation_name
from nanfix.model.crossentropies import (
    PROBABILITIES,
    Targets,
    crossentropy_of,
    loss_name,
    takes_logits,
)
from nanfix.model.run import Run
from nanfix.private.keras import CompileLoss
from nanfix.private.objects import given_loss_weights

# The best constant prediction under a loss.
CENTERS: Mapping[str, Callable[..., Any]] = {
    "mean_squared_error": np.mean,
    "mean_absolute_error": np.median,
}

FEWEST = 10  # rows with a target, to learn a constant and to judge it; of fewer it is chance


@dataclass(frozen=True)
class Output:
    """One output of a model: the name under which Keras logs its loss, that loss, the shape without
    rows, and the activation that it comes from, if that can be told.
    """

    logged: str
    loss: Any
    shape: tuple[int, ...]
    activation: str | None


def constant_losses(run: Run, validation: TrainingData) -> dict[str, float]:
    """Return the loss on the validation data of always predicting the same: mean, median, or class
    frequencies. By the names under which Keras logs them: "loss", and that of each of several
    outputs.

    What is not known is left out: without targets, or where the best constant of a loss is not one
    of these.
    """
    outputs = list(_outputs(run))
    truth = flat_arrays(validation.y) if validation.is_arrays else []
    if not (len(outputs) == len(truth) == len(run.sample.targets)):
        return {}
    names: list[str] = list(getattr(run.model, "output_names", None) or ())
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


def trained_outputs(model: Any) -> list[str]:
    """Return the names under which Keras logs the losses of several outputs, without those that are
    weighed with 0; nothing for a single one.
    """
    names, weights = list(getattr(model, "output_names", None) or ()), given_loss_weights(model)
    if isinstance(weights, list | tuple) and len(weights) == len(names):
        weights = dict(zip(names, weights, strict=True))
    given = weights if isinstance(weights, Mapping) else {}
    trained = [name for name in names if given.get(name) != 0]
    return [f"{name}_loss" for name in trained] if len(names) > 1 else []


def in_order(arrays: list[Any], given: Any, names: list[str]) -> list[Any]:
    """Return the flattened arrays of what was `given` for the outputs, in the order of these: a
    dict is flattened by the order of its keys.
    """
    if not isinstance(given, Mapping) or set(given) != set(names) or len(arrays) != len(names):
        return arrays
    found = dict(zip(sorted(given), arrays, strict=True))
    return [found[name] for name in names]


def _outputs(run: Run) -> Iterator[Output]:
    """Yield the outputs of a model in their order; nothing where losses cannot be told apart."""
    shapes, model = getattr(run.model, "output_shape", None), run.model
    if isinstance(shapes, tuple) and all(isinstance(size, int | None) for size in shapes):
        if None not in shapes[1:] and not isinstance(run.user_loss, dict | list | tuple):
            activation = None if run.output_activation is None else run.output_name
            yield Output("loss", run.user_loss, shapes[1:], activation)
        return
    names, losses = list(getattr(model, "output_names", None) or ()), run.user_loss
    if isinstance(losses, dict):
        losses = [losses.get(name) for name in names]
    elif not isinstance(losses, list | tuple):
        losses = [losses] * len(names)
    flat = [tuple(each.shape) for each in tree.flatten(getattr(model, "outputs", None) or ())]
    if len(flat) != len(names) or len(losses) != len(names) or None in losses:
        return
    by_name = {layer.name: layer for layer in model.layers}
    for name, loss, shape in zip(names, losses, flat, strict=True):
        if None in shape[1:]:
            return
        layer = by_name.get(name)
        activation = activation_name(layer) if hasattr(layer, "activation") else None
        yield Output(f"{name}_loss", loss, shape[1:], activation)


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


def _takes_classes(loss: Any) -> bool:
    """Say whether the targets of a loss are the indices of classes."""
    crossentropy = crossentropy_of(loss)
    return crossentropy is not None and crossentropy.targets is Targets.CLASS


def _finite_rows(array: np.ndarray) -> np.ndarray:
    return np.asarray(np.isfinite(array.astype("float64").reshape(len(array), -1)).all(axis=1))
