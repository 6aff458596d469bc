"""Biases with which the last layer of a model begins at the best constant prediction."""

import numpy as np

from nanfix.data.constant_prediction import best_constant
from nanfix.model.crossentropies import SOFTMAX, crossentropy_of
from nanfix.model.outputs import Output, in_order, output_names, outputs_of
from nanfix.model.run import Run
from nanfix.records.features import short

ODDS = 3.0  # to one: classes that are more even leave a bias at 0
UNEVEN = float(np.log(ODDS))


def fitting_biases(run: Run) -> dict[str, tuple[float, ...]]:
    """Return, by the address of the layer, the biases of last layers that give what an output can
    best predict always: the mean or median of measured targets, the log-odds of classes.

    Left out is what is as well begun at 0: measured targets whose mean is not further from 0 than
    they vary, and classes of which none is `ODDS` times as frequent as another.
    """
    outputs, targets = list(outputs_of(run)), list(run.sample.targets)
    if len(outputs) != len(targets) or run.class_weight:
        return {}
    names = output_names(run)
    targets = in_order(targets, run.sample.target_names, names) if len(names) > 1 else targets
    found = {
        output.address: _biases(output, array)
        for output, array in zip(outputs, targets, strict=True)
        if output.address is not None and _takes_biases(run, output)
    }
    return {address: biases for address, biases in found.items() if biases}


def _takes_biases(run: Run, output: Output) -> bool:
    """Say whether an output has one bias for each of its columns."""
    bias = getattr(run.members[output.address or ""], "bias", None)
    return bias is not None and tuple(bias.shape) == output.shape[-1:]


def _biases(output: Output, targets: np.ndarray) -> tuple[float, ...]:
    constant, crossentropy = best_constant(output, targets), crossentropy_of(output.loss)
    if constant is None or constant.size != output.shape[-1]:
        return ()
    if crossentropy is None:
        linear = output.activation == "linear"
        return short(constant) if linear and not _varies(targets, constant) else ()
    logits = constant
    if output.activation == crossentropy.activation:
        logits = crossentropy.logits(constant)
    elif output.activation != "linear":
        return ()
    if crossentropy.activation == SOFTMAX:
        logits = logits - np.mean(logits)  # a softmax takes what all have in common as nothing
        return short(logits) if np.ptp(logits) >= UNEVEN else ()
    return short(logits) if np.abs(logits).max() >= UNEVEN else ()


def _varies(targets: np.ndarray, constant: np.ndarray) -> bool:
    """Say whether measured targets vary as much as they are away from 0, in every column."""
    table = np.asarray(targets, "float64").reshape(-1, constant.size)
    return bool((np.abs(constant) <= np.nanstd(table, axis=0)).all())
