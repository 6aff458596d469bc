"""The logarithms of functions that are made of exponentials, or of products of many numbers, as a
determinant, computed without these.

Maechler (2012), Accurately computing log(1 - exp(-|a|)).
"""

import math
from collections.abc import Callable

import tensorflow as tf


def log_of_cosh(x: tf.Tensor) -> tf.Tensor:
    size = tf.abs(x)
    return size + tf.math.softplus(-2.0 * size) - math.log(2.0)


def _log_of_softplus(x: tf.Tensor) -> tf.Tensor:
    """Below -10 what is left out is less than 1e-9."""
    small = tf.minimum(x, -10.0)
    return tf.where(
        x < -10.0, small - tf.exp(small) / 2.0, tf.math.log(tf.math.softplus(tf.maximum(x, -10.0)))
    )


def _log_of_expm1(x: tf.Tensor) -> tf.Tensor:
    return x + log_of_one_less(-x)


def log_of_one_less(y: tf.Tensor) -> tf.Tensor:
    """Return log(1 - exp(y)) of y below 0, after Maechler (2012), Accurately computing
    log(1 - exp(-|a|)); each branch is kept where its slope is finite.
    """
    near = y > -math.log(2.0)
    small = tf.where(near, y, -math.log(2.0) * tf.ones_like(y))
    return tf.where(
        near, tf.math.log(-tf.math.expm1(small)), tf.math.log1p(-tf.exp(tf.minimum(y, -0.5)))
    )


def _log_of_sinh(x: tf.Tensor) -> tf.Tensor:
    return x + log_of_one_less(-2.0 * x) - math.log(2.0)


def _log_of_bessel_i0(x: tf.Tensor) -> tf.Tensor:
    return tf.abs(x) + tf.math.log(tf.math.bessel_i0e(x))


def _log_of_bessel_i1(x: tf.Tensor) -> tf.Tensor:
    return tf.abs(x) + tf.math.log(tf.math.bessel_i1e(x))


def _log_of_determinant(x: tf.Tensor) -> tf.Tensor:
    return tf.linalg.slogdet(x)[1]


def log_of_function(operation: tf.Operation) -> tf.Tensor | None:
    """Return the logarithm of what one of the functions below gives; None of anything else."""
    if operation.type == "Abs" and operation.inputs[0].op.type == "MatrixDeterminant":
        operation = operation.inputs[0].op
    logarithm = LOGARITHMS.get(operation.type)
    return None if logarithm is None else logarithm(operation.inputs[0])


# The logarithms of functions that are made of exponentials, and of powers of what is.
LOGARITHMS: dict[str, Callable[[tf.Tensor], tf.Tensor]] = {
    "BesselI0": _log_of_bessel_i0,
    "BesselI1": _log_of_bessel_i1,
    "Exp": tf.identity,
    "Cosh": log_of_cosh,
    "Expm1": _log_of_expm1,
    "MatrixDeterminant": _log_of_determinant,
    "Sinh": _log_of_sinh,
    "Sigmoid": tf.math.log_sigmoid,
    "Softmax": tf.nn.log_softmax,
    "Softplus": _log_of_softplus,
}
