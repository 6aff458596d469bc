"""Quotients of exponentials, read off the graph and computed of their exponents: a softmax by hand,
with a mask or without, a sigmoid or tanh by hand, a mean that is weighted with exponentials.

exp(a) / sum(exp(b)) is exp(a - logsumexp(b)), c / (1 + exp(-x)) is c * exp(-softplus(-x)), equal
where both are finite. Blanchard, Higham & Higham (2021), Accurately computing the log-sum-exp and
softmax functions, doi:10.1093/imanum/draa038.
"""

import itertools
import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from nanfix.changes.differences import SAME, is_all
from nanfix.changes.exponentials import (
    BRANCHING,
    DEPTH,
    MATRICES,
    PRODUCTS,
    left_out,
    log_of_constant,
    log_of_factor,
    log_of_sum,
    reduced,
)
from nanfix.records.unsafe_operations import KEEPS_FROM_0

MASKS = ("begin_mask", "end_mask", "ellipsis_mask", "new_axis_mask", "shrink_axis_mask")
# What puts numbers elsewhere: the same of other numbers.
MOVED: dict[str, Callable[[tf.Tensor, Any], tf.Tensor]] = {
    SAME: lambda x, _: x,
    "ExpandDims": lambda x, operation: tf.expand_dims(x, operation.inputs[1]),
    "Reshape": lambda x, operation: tf.reshape(x, operation.inputs[1]),
    "Squeeze": lambda x, operation: tf.squeeze(x, operation.get_attr("squeeze_dims")),
    "StridedSlice": lambda x, operation: tf.strided_slice(
        x, *operation.inputs[1:], **{mask: operation.get_attr(mask) for mask in MASKS}
    ),
    "Transpose": lambda x, operation: tf.transpose(x, operation.inputs[1]),
}
SUMS: dict[str, Callable[..., tf.Tensor]] = {"AddV2": log_of_sum, "Maximum": tf.maximum}
# What makes one number of two, and the same of their logarithms.
JOINED: dict[str, Callable[..., tf.Tensor]] = {**PRODUCTS, **SUMS}
# Of what a quotient is computed summand by summand, and of how many in a row.
SIGNED: dict[str, Callable[..., Any]] = {
    "AddV2": operator.add,
    "Neg": operator.neg,
    "Sub": operator.sub,
}
SUMMANDS = 3


def stable_quotient(part: tf.Tensor, whole: tf.Tensor) -> tf.Tensor | None:
    """Return part / whole, the whole made of exponentials, computed of their exponents, in the same
    graph; None where it is made of something else. The part may be exponentials, a mean to be (a
    sum, or a product of matrices, of other numbers that are weighted with exponentials), a
    difference of such, or anything else.

    What a mask leaves out has a share of 0, in a row of which it leaves nothing, too. A tiny number
    that keeps the whole from being 0 counts for nothing: so it is beside any exponential that a
    person would have it stand beside.
    """
    logarithm = _exponent(whole, DEPTH)
    return None if logarithm is None else _over(part, logarithm, SUMMANDS)


def _over(part: tf.Tensor, whole: tf.Tensor, depth: int) -> tf.Tensor:
    """Return a part divided by a whole of this logarithm."""
    mean = _mean(part.op, whole, DEPTH)  # what it weights may be below 0
    if mean is not None:
        return mean
    exponent = _exponent(part, DEPTH)
    if exponent is not None:
        return _share(exponent, whole)
    if part.op.type in SIGNED and depth > 0:
        return SIGNED[part.op.type](*(_over(each, whole, depth - 1) for each in part.op.inputs))
    return part * tf.exp(-whole)


def _share(exponent: tf.Tensor, whole: tf.Tensor) -> tf.Tensor:
    """Return exp(exponent - whole), and 0 of what is left out."""
    lowest = left_out(exponent.dtype)
    return tf.exp(tf.where(exponent > lowest / 2, exponent - whole, lowest))


def _mean(operation: tf.Operation, whole: tf.Tensor, depth: int = DEPTH) -> tf.Tensor | None:
    """Return what sums up numbers that are weighted with exponentials, divided by a whole of that
    logarithm: each weight is divided before. None of anything else.
    """
    if operation.type == SAME and depth > 0:
        return _mean(operation.inputs[0].op, whole, depth - 1)
    if operation.outputs[0].shape.rank != whole.shape.rank:
        return None
    if operation.type in MATRICES:
        weights, values = operation.inputs
        turned, values_turned = (operation.get_attr(n) for n in MATRICES[operation.type])
        exponent = None if turned or whole.shape[-1] != 1 else _exponent(weights, DEPTH)
        if exponent is None:
            return None
        return tf.matmul(_share(exponent, whole), values, transpose_b=values_turned)
    product = operation.inputs[0] if operation.type == "Sum" else None
    if product is None or product.op.type != "Mul":
        return None
    axes, kept = tf.get_static_value(operation.inputs[1]), operation.get_attr("keep_dims")
    for weights, values in itertools.permutations(product.op.inputs):
        exponent = _exponent(weights, DEPTH)
        if axes is not None and exponent is not None and weights.shape.rank == product.shape.rank:
            for axis in () if kept else sorted(np.ravel(axes) % product.shape.rank):
                whole = tf.expand_dims(whole, axis)
            return tf.reduce_sum(_share(exponent, whole) * values, axes, keepdims=kept)
    return None


def _exponent(x: tf.Tensor, depth: int) -> tf.Tensor | None:
    """Return log(x) of what is made of exponentials and of nothing else but masks."""
    operation = x.op
    if operation.type == "Exp":
        return operation.inputs[0]
    if operation.type == "OnesLike":  # what a quotient is divided by that was computed so before
        return tf.zeros_like(x)
    if depth <= 0:
        return None
    if operation.type in JOINED:
        return _log_of_both(operation, depth)
    if operation.type == "SelectV2":
        kept, some, rest = operation.inputs
        emptied = rest.op.type == "ZerosLike" or is_all(rest, 0)
        inside = _exponent(some, depth - BRANCHING) if emptied else None
        return None if inside is None else tf.where(kept, inside, left_out(x.dtype))
    if operation.type == "Sum":
        return reduced(_exponent(operation.inputs[0], depth - 1), operation)
    inside = _exponent(operation.inputs[0], depth - 1) if operation.type in MOVED else None
    return None if inside is None else MOVED[operation.type](inside, operation)


def _log_of_both(operation: tf.Operation, depth: int) -> tf.Tensor | None:
    """Return the logarithm of what is made of two: both of exponentials, or one of them a mask that
    is multiplied with, or a constant, as the 1 of a sigmoid. One that is there to keep a sum from
    being 0 is left out.
    """
    found = [_exponent(each, depth - BRANCHING) for each in operation.inputs]
    if all(each is None for each in found):
        return None
    if operation.type in SUMS and any(map(_keeps_from_0, operation.inputs)):
        return next(each for each in found if each is not None)
    other = _log_of_mask if operation.type == "Mul" else log_of_constant
    logarithms = [
        other(each) if known is None else known
        for each, known in zip(operation.inputs, found, strict=True)
    ]
    known = all(each is not None for each in logarithms)
    return JOINED[operation.type](*logarithms) if known else None


def _keeps_from_0(x: tf.Tensor) -> bool:
    known = tf.get_static_value(x)
    return known is not None and bool(((known > 0) & (known <= KEEPS_FROM_0)).all())


def _log_of_mask(x: tf.Tensor) -> tf.Tensor | None:
    """Return the logarithm of what is never negative and not computed of numbers. What a layer is
    given may be negative all the same: it is NaN then, and such a form does not hold.
    """
    operation = x.op
    while operation.type in MOVED:
        operation = operation.inputs[0].op
    if operation.type == "Placeholder":
        known = log_of_factor(tf.maximum(x, tf.constant(0, x.dtype)))
        return None if known is None else tf.where(x < 0, tf.constant(math.nan, x.dtype), known)
    return log_of_factor(x) if operation.type in ("Cast", "Const", "OneHot") else None
