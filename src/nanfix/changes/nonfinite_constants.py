"""Constants that hold NaN or inf by mistake, and what takes the place of these numbers.

A constant is what a computation is given that is neither data nor a weight: an array of the user's
that a loss or a layer holds, such as the logarithm of counts.
"""

from typing import Any

import numpy as np
import tensorflow as tf

from nanfix.model.nonfinite_weights import is_at_fault
from nanfix.model.operations import array_of

# What holds a constant in a graph: small ones are written into it, others are captured.
HELD_BY = ("Const", "Placeholder")


def instead_of(constant: np.ndarray) -> dict[str, float]:
    """Return what takes the place of the numbers of a constant that are not finite, by numpy's
    words for these: of -inf the least that is finite, of inf the greatest, of NaN their mean.

    Nothing where the constant has no finite number, nor where it is not at fault.
    """
    numbers = constant.astype("float64")
    finite = numbers[np.isfinite(numbers)]
    if not finite.size or not is_at_fault(constant):
        return {}
    kinds = {
        "nan": (np.isnan(numbers), finite.mean()),
        "posinf": (numbers == np.inf, finite.max()),
        "neginf": (numbers == -np.inf, finite.min()),
    }
    return {kind: float(number) for kind, (where, number) in kinds.items() if where.any()}


def filled(constant: np.ndarray) -> np.ndarray | None:
    """Return a constant with finite numbers only; None where there is nothing to replace, or
    nothing to replace it by.
    """
    instead = instead_of(constant)
    if not instead:
        return None
    nan, high, low = (instead.get(kind, 0.0) for kind in ("nan", "posinf", "neginf"))
    finite = np.nan_to_num(constant.astype("float64"), nan=nan, posinf=high, neginf=low)
    return finite.astype(constant.dtype)


def in_graph(tensor: tf.Tensor) -> tf.Tensor | None:
    """Return what takes the place of a tensor of a graph that is a constant at fault, else None."""
    if tensor.op.type not in HELD_BY or not tensor.dtype.is_floating:
        return None
    value = _known(tensor)
    finite = None if value is None else filled(value)
    return None if finite is None else tf.constant(finite, tensor.dtype)


def executed(given: Any) -> Any:
    """Return what an eager operation is to be given in the place of this argument."""
    if not isinstance(given, np.ndarray | tf.Tensor) or not _is_float(given):
        return given
    finite = filled(given if isinstance(given, np.ndarray) else array_of(given))
    return given if finite is None else tf.constant(finite, given.dtype)


def _is_float(given: Any) -> bool:
    return tf.as_dtype(given.dtype).is_floating


def _known(tensor: tf.Tensor) -> np.ndarray | None:
    """Return the numbers of a constant, through all graphs that have captured it."""
    while not hasattr(tensor, "numpy"):
        if tensor.op.type == "Const":
            return np.asarray(tf.get_static_value(tensor))
        captures = getattr(tensor.graph, "captures", ())
        outside = next((outer for outer, inner in captures if inner is tensor), None)
        if not isinstance(outside, tf.Tensor):
            return None
        tensor = outside
    return array_of(tensor)
