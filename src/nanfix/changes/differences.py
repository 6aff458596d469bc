"""Differences of nearly equal numbers, of which rounding leaves nothing or less than 0, read off
the graph and computed without it.

mean(x**2) - mean(x)**2 is the mean of (x - mean(x))**2, 1 - exp(x) is -expm1(x) and 1 - cos(x) is
2 * sin(x / 2)**2.
Goldberg (1991), What every computer scientist should know about floating-point arithmetic,
doi:10.1145/103162.103163.
"""

import numpy as np
import tensorflow as tf

SAME = "Identity"


def stable_difference(whole: tf.Tensor, less: tf.Tensor) -> tf.Tensor | None:
    """Return whole - less computed without cancellation, in the same graph; None where it is no
    difference that has such a form.
    """
    whole, less = _itself(whole), _itself(less)
    if is_all(whole, 1):
        return _one_less(less)
    if is_all(less, 1):
        rest = _one_less(whole)
        return None if rest is None else -rest
    return _variance(whole, less)


def base_of_square(x: tf.Tensor) -> tf.Tensor | None:
    """Return what a tensor is the square of, None where it is none."""
    operation = x.op
    if operation.type == "Square":
        return operation.inputs[0]
    if operation.type == "Mul" and operation.inputs[0] is operation.inputs[1]:
        return operation.inputs[0]
    if operation.type == "Pow" and is_all(operation.inputs[1], 2):
        return operation.inputs[0]
    return None


def is_all(x: tf.Tensor, number: int) -> bool:
    """Say whether a tensor is known to be this number in every cell."""
    known = tf.get_static_value(x)
    return known is not None and bool((known == number).all())


def _itself(x: tf.Tensor) -> tf.Tensor:
    while x.op.type == SAME:
        x = x.op.inputs[0]
    return x


def _one_less(x: tf.Tensor) -> tf.Tensor | None:
    """Return 1 - x."""
    given = x.op.inputs[0] if x.op.type in ("Exp", "Cos") else None
    if given is None:
        return None
    return -tf.math.expm1(given) if x.op.type == "Exp" else 2.0 * tf.square(tf.sin(given / 2.0))


def _variance(whole: tf.Tensor, less: tf.Tensor) -> tf.Tensor | None:
    """Return mean(x**2) - mean(x)**2."""
    squares, mean = whole.op, base_of_square(less)
    of_mean = None if mean is None else _itself(mean).op
    if squares.type != "Mean" or of_mean is None or of_mean.type != "Mean":
        return None
    squared, x = base_of_square(_itself(squares.inputs[0])), of_mean.inputs[0]
    axes = [tf.get_static_value(each.inputs[1]) for each in (squares, of_mean)]
    kept = [each.get_attr("keep_dims") for each in (squares, of_mean)]
    if squared is None or _itself(squared) is not _itself(x) or kept[0] != kept[1]:
        return None
    known = [np.ravel(each) for each in axes if each is not None]
    if len(known) < len(axes) or not np.array_equal(known[0], known[1]):
        return None
    deviations = x - tf.reduce_mean(x, axes[0], keepdims=True)
    return tf.reduce_mean(tf.square(deviations), axes[0], keepdims=kept[0])
