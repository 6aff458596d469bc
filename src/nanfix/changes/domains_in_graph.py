"""What keeps the operand of an operation inside a domain, in a graph; in words and in source it
stands in `records.domains`.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from ml_dtypes import finfo

from nanfix.records.domains import (
    ABOVE_LOWEST,
    ABOVE_MINUS_ONE,
    ABOVE_ONE,
    ABOVE_ZERO,
    AWAY_FROM_ZERO,
    BASE,
    BELOW_LIMIT,
    FINITE,
    INSIDE_ONE,
    NOT_EMPTY,
    REGULAR,
    WITHIN_LIMITS,
    ZERO_OR_AWAY,
    Domain,
)
from nanfix.records.unsafe_operations import UnsafeOperation


def _above_zero(x, e):
    return tf.maximum(x, _edge(x, e))


def _above_minus_one(x, e):
    return tf.maximum(x, -_below_one(x, e))


def _above_one(x, e):
    return tf.maximum(x, 2 - _below_one(x, e))


def _inside_one(x, e):
    one = _below_one(x, e)
    return tf.clip_by_value(x, -one, one)


def _below_limit(x, e):
    """exp(x) stays below 1 / e, and so far below the largest number that many of them
    can be added up.

    For an e of 0 it is at most 1 instead, relative to the largest along the last axis.
    """
    if e == 0:
        return x - tf.stop_gradient(tf.reduce_max(x, axis=-1, keepdims=True))
    largest = float(finfo(x.dtype.as_numpy_dtype).max)
    return tf.minimum(x, tf.constant(min(-math.log(e), 0.9 * math.log(largest)), x.dtype))


def _within_limits(x, e):
    """cosh(x) and sinh(x) stay as far below the largest number as exp(x) does."""
    return tf.maximum(_below_limit(x, e), -tf.constant(-math.log(e), x.dtype))


def _above_lowest(x, e):
    """-inf becomes a number so low that its share is 0 beside any other, and a row of
    nothing else is no row of NaN.
    """
    lowest = float(finfo(x.dtype.as_numpy_dtype).min)
    return tf.maximum(x, tf.constant(max(-1 / e, lowest / 4), x.dtype))


def _finite(x, e):
    """An infinity becomes a number so great that it masks all the same."""
    return -_above_lowest(-_above_lowest(x, e), e)


def _away_from_zero(x, e):
    if e == 0:
        # What is divided by it is 0, and so is the gradient.
        return tf.where(tf.equal(x, 0), tf.constant(math.inf, x.dtype), x)
    edge = _edge(x, e)
    return tf.where(tf.abs(x) < edge, tf.where(x < 0, -edge, edge), x)


def _zero_or_away(x, e):
    """DivNoNan by exactly 0 is 0 by the user's will."""
    return tf.where(tf.equal(x, 0), x, _away_from_zero(x, e))


def _complex_away_from_zero(x, e):
    """A complex number has no sign. One divided by inf is NaN, so something great stands for it."""
    edge = GREAT if e == 0 else e
    near = tf.equal(x, 0) if e == 0 else tf.abs(x) < e
    return tf.where(near, tf.constant(edge, x.dtype), x)


def _regular(matrix, e):
    return matrix + tf.constant(e, matrix.dtype) * tf.eye(tf.shape(matrix)[-1], dtype=matrix.dtype)


def _not_empty(x, _, axes=()):
    """A 0 stands along each axis that is reduced and has no element."""
    if x.shape.is_fully_defined() and x.shape.num_elements():
        return x
    rank = tf.rank(x)
    reduced = tf.equal(tf.range(rank)[:, None], tf.reshape(tf.cast(axes, "int32"), [1, -1]) % rank)
    missing = tf.logical_and(tf.reduce_any(reduced, axis=1), tf.equal(tf.shape(x), 0))
    missing = tf.cast(missing, "int32")
    full = tf.pad(x, tf.stack([tf.zeros_like(missing), missing], axis=1))
    # Of an unknown shape: an operation takes no other than it was made with.
    return tf.raw_ops.PlaceholderWithDefault(input=full, shape=tf.TensorShape(dims=None))  # pyright: ignore


def _base(base, e, exponent):
    """A base may be negative under a whole exponent, and zero too where that is at least 1."""
    known = tf.get_static_value(exponent)
    if known is not None and np.all((known == np.floor(known)) & (known >= 1)):
        return base
    below_one = _of_any(exponent < 1, base)
    fraction = _of_any(tf.not_equal(exponent, tf.floor(exponent)), base)
    whole = tf.where(below_one, _away_from_zero(base, e), base)
    return tf.where(fraction, _above_zero(base, e), whole)


def _of_any(exponents: tf.Tensor, base: tf.Tensor) -> tf.Tensor:
    """Say of each number of a base whether it is so for any of the exponents that it has: they may
    be more than one, and an operation takes no other shape than it was made with.
    """
    shape, more = base.shape, exponents.shape
    if shape.rank is None or more.rank is None:
        return exponents
    exponents = tf.reduce_any(exponents, axis=list(range(more.rank - shape.rank)))
    several = [axis for axis, size in enumerate(exponents.shape) if size != 1]
    first = shape.rank - len(exponents.shape)
    axes = [axis for axis in several if shape[first + axis] == 1]
    return tf.reduce_any(exponents, axis=axes, keepdims=True) if axes else exponents


def _edge(x: tf.Tensor, e: float) -> tf.Tensor:
    """Return e, or so much more that 1 / e**2, which the gradient of a division holds,
    does not overflow.
    """
    return tf.constant(max(e, math.sqrt(float(finfo(x.dtype.as_numpy_dtype).tiny))), x.dtype)


def _below_one(x: tf.Tensor, e: float) -> tf.Tensor:
    """Return 1 - e, or the next number below 1 that the gradient can still tell from 1."""
    return tf.constant(1 - max(e, float(finfo(x.dtype.as_numpy_dtype).eps)), x.dtype)


# What keeps an operand x in a domain, e away from its edge; a base is given its exponent too, what
# is reduced its axes.
IN_GRAPH: dict[Domain, Callable[..., tf.Tensor]] = {
    ABOVE_ZERO: _above_zero,
    ABOVE_MINUS_ONE: _above_minus_one,
    ABOVE_ONE: _above_one,
    INSIDE_ONE: _inside_one,
    BELOW_LIMIT: _below_limit,
    WITHIN_LIMITS: _within_limits,
    ABOVE_LOWEST: _above_lowest,
    FINITE: _finite,
    AWAY_FROM_ZERO: _away_from_zero,
    ZERO_OR_AWAY: _zero_or_away,
    REGULAR: _regular,
    BASE: _base,
    NOT_EMPTY: _not_empty,
}


# Those of which 0 is the edge: of complex numbers nothing else is outside of them.
AT_ZERO = (ABOVE_ZERO, AWAY_FROM_ZERO, ZERO_OR_AWAY, BASE)
GREAT = 1e18  # its square is finite in complex64, too


def operands(given: Sequence[Any], operation: UnsafeOperation) -> list[tf.Tensor]:
    """Return the inputs of an eager operation, of all that it was given: numbers of Python's may be
    among them, and the names of its attributes follow.
    """
    inputs = list(itertools.takewhile(lambda each: not isinstance(each, str), given))
    if operation.domain is NOT_EMPTY:  # its axes
        return [inputs[0], tf.cast(inputs[1], "int32")]
    dtype = next((each.dtype for each in inputs if tf.is_tensor(each)), None)
    return [tf.convert_to_tensor(each, dtype) for each in inputs]


def kept(
    operation: UnsafeOperation,
    inputs: Sequence[tf.Tensor],
    epsilon: float,
    is_kept: Callable[[tf.Tensor], bool],
) -> dict[int, tf.Tensor]:
    """Return which inputs of an operation are kept in its domain, and what they become.

    Args:
        is_kept: says of an input whether it comes from such an operation. Where the product of two
            that are kept is a number, it is left as it is.
    """
    index, domain = operation.operand, operation.domain
    others = inputs[1:] if domain in (BASE, NOT_EMPTY) else ()
    indices: Iterable[int] = (index,)
    if domain is FINITE:  # the infinite factor may be either
        fits = epsilon**-2 < float(finfo(inputs[0].dtype.as_numpy_dtype).max)
        indices = [each for each, tensor in enumerate(inputs) if not (fits and is_kept(tensor))]
    if inputs[index].dtype.is_complex:
        at_zero = domain in AT_ZERO
        return {index: _complex_away_from_zero(inputs[index], epsilon)} if at_zero else {}
    return {index: IN_GRAPH[domain](inputs[index], epsilon, *others) for index in indices}
