"""What `fit` and `compile` were told to weigh losses by, of classes and of outputs; and finite
numbers for those of these weights that are not.
"""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from keras import tree

from nanfix.model.outputs import output_names
from nanfix.private.objects import given_loss_weights

if TYPE_CHECKING:
    from nanfix.model.run import Run


def finite_class_weights(run: "Run") -> dict[int, float]:
    """Return a weight for each class that occurs and whose own is not finite: with it the class
    counts as much, over all of its rows, as the others do on average.

    Weights are made of counts; such a class was counted elsewhere, and not once.
    """
    given, counts = run.class_weight or {}, _counts(run)
    present = {label: float(weight) for label, weight in given.items() if counts.get(label)}
    wholes = [counts[label] * each for label, each in present.items() if math.isfinite(each)]
    whole = float(np.mean(wholes)) if any(wholes) else float(np.mean(list(counts.values()) or [1]))
    bad = [label for label, weight in present.items() if not math.isfinite(weight)]
    return {int(label): float(f"{whole / counts[label]:.4g}") for label in bad}


def finite_loss_weights(run: "Run") -> list[float | None]:
    """Return, in the order of the flattened weights that `compile` was given, the greatest one that
    is finite for each that is not, 1 where none is, and None for all others; nothing where all are
    finite.
    """
    given = _numbers(run)
    finite = [each for each in given if math.isfinite(each)]
    instead = max(finite, default=1.0) or 1.0
    if len(finite) == len(given):
        return []
    return [None if math.isfinite(each) else instead for each in given]


def weighed_outputs(run: "Run") -> list[str]:
    """Return the names of the outputs that these weights are for; empty for one that has none, as
    the only output.
    """
    given, names = given_loss_weights(run.model), output_names(run)
    if isinstance(given, Mapping):
        return sorted(given)  # the order in which Keras flattens a dict
    count = len(_numbers(run))
    return names if count == len(names) > 1 else [""] * count


def words(run: "Run") -> str:
    """Say which weights are not finite; nothing where all are."""
    given, classes = run.class_weight or {}, finite_class_weights(run)
    found = [f"class_weight of class {label} is {float(given[label]):g}" for label in classes]
    for name, weight in zip(weighed_outputs(run), _numbers(run), strict=True):
        if not math.isfinite(weight):
            found.append(f"loss_weights{f' of output {name}' if name else ''} is {weight:g}")
    return " and ".join(found)


def _numbers(run: "Run") -> list[float]:
    leaves = tree.flatten(given_loss_weights(run.model))
    return [1.0 if each is None else float(each) for each in leaves]


def _counts(run: "Run") -> dict[int, int]:
    """Return how often each class occurs in the sample; nothing where the targets are no classes,
    of which Keras takes weights for a single output alone.
    """
    if len(run.sample.targets) != 1:
        return {}
    labels = np.asarray(run.sample.targets[0])
    if labels.ndim > 1 and labels.shape[-1] > 1:
        labels = labels.argmax(axis=-1)
    found, counts = np.unique(labels[np.isfinite(labels)], return_counts=True)
    return {int(label): int(count) for label, count in zip(found, counts, strict=True)}
