"""The logarithm of exponentials and of functions made of them, read off the graph and computed
without them.

log(sum(w * exp(a))) is logsumexp(a + log(w)), equal where both are finite, and that of a mean is
less by the log of their number; log(exp(a) - exp(b)) is a + log(1 - exp(b - a)), log(cosh(x)) is
|x| + softplus(-2 |x|) - log 2, log(I0(x)) of a Bessel function |x| + log(exp(-|x|) I0(x)); that of
a determinant, a product of many numbers, is the sum of their logarithms.
Blanchard, Higham & Higham (2021), Accurately computing the log-sum-exp and softmax functions,
doi:10.1093/imanum/draa038.
"""

import operator
from collections.abc import Callable, Sequence

import tensorflow as tf
from ml_dtypes import finfo

from nanfix.changes.differences import SAME, base_of_square, is_all
from nanfix.changes.logarithms import log_of_cosh, log_of_function, log_of_one_less

# Operations that are looked through, one behind the other, as in a recursion of many steps. One of
# which both sides are looked through counts as many, as their number doubles with each. Each takes
# three frames of Python's stack, which holds a thousand.
DEPTH, BRANCHING = 140, 12
SIGN_DEPTH = 12  # operations that are looked through for a sign
PRODUCTS = {"Mul": operator.add, "RealDiv": operator.sub}  # and what is done with the logarithms
# Products of matrices, and the attributes that say which of the two is transposed.
MATRICES = {
    "MatMul": ("transpose_a", "transpose_b"),
    "BatchMatMul": ("adj_x", "adj_y"),
    "BatchMatMulV2": ("adj_x", "adj_y"),
}
# What is positive, or 0, whatever it is computed of.
POSITIVE = ("Exp", "Softmax", "Softplus", "Sigmoid", "Square", "Abs", "Sqrt", "Rsqrt", "OneHot")
# What is positive where all that it is computed of is.
KEEPS_SIGN = (
    "AddV2", "AddN", "BroadcastTo", "Cast", "ConcatV2", "ExpandDims", "GatherV2", "Identity", "Max",
    "Mean", "Min", "Mul", "Pack", "Prod", "RealDiv", "Reciprocal", "Reshape", "Split", "SplitV",
    "Squeeze", "StridedSlice", "Sum", "Tile", "Transpose",
)  # fmt: skip


def _log_of_mean(x: tf.Tensor, axis: tf.Tensor, *, keepdims: bool) -> tf.Tensor:
    """Return log(mean(exp(x)))."""
    total = tf.reduce_logsumexp(x, axis, keepdims=keepdims)
    return total - tf.math.log(tf.cast(tf.size(x) / tf.size(total), x.dtype))


# What makes one number of several, and the same of their logarithms.
REDUCED: dict[str, Callable[..., tf.Tensor]] = {
    "Max": tf.reduce_max,
    "Mean": _log_of_mean,
    "Min": tf.reduce_min,
    "Prod": tf.reduce_sum,
    "Sum": tf.reduce_logsumexp,
}
TIMES_LOG: dict[str, Callable[..., tf.Tensor]] = {"Log": tf.math.xlogy, "Log1p": tf.math.xlog1py}
POWERS = {"Sqrt": 0.5, "Rsqrt": -0.5, "Square": 2.0, "Reciprocal": -1.0}
LOOKED_THROUGH = (SAME, "AddV2", "Sub", *REDUCED, *POWERS, *PRODUCTS, *MATRICES)


def stable_form(kind: str, x: tf.Tensor) -> tf.Tensor | None:
    """Return log(x) or, of the kind Log1p, log(1 + x), computed without the exponentials that x is
    made of; None where it is made of something else.
    """
    if kind != "Log1p":
        return stable_log(x)
    if x.op.type == "Neg":
        return _log_of_rest(x.op.inputs[0], DEPTH)
    logarithm = stable_log(x)
    return None if logarithm is None else tf.math.softplus(logarithm)


def factor_times_log(left: tf.Tensor, right: tf.Tensor) -> tf.Tensor | None:
    """Return left * right where one is a logarithm, 0 where the other is 0, and so is the gradient
    there; None where neither is a logarithm.
    """
    for factor, logarithm in ((left, right), (right, left)):
        operation = logarithm.op
        while operation.type == SAME:
            operation = operation.inputs[0].op
        if operation.type in TIMES_LOG and factor.dtype == logarithm.dtype:
            return TIMES_LOG[operation.type](factor, operation.inputs[0])
    return None


def stable_log(x: tf.Tensor, depth: int = DEPTH) -> tf.Tensor | None:
    """Return log(x) computed without the exponentials that x is made of, in the same graph; None
    where it is made of something else.
    """
    operation = x.op
    if depth <= 0:
        return None
    if operation.type == SAME:
        return stable_log(operation.inputs[0], depth - 1)
    if operation.type == "AddV2":
        return _joined(operation.inputs, log_of_constant, depth - 1, log_of_sum)
    if operation.type in REDUCED:
        return reduced(_product(operation.inputs[0], depth - 1), operation)
    return _product(x, depth)


def reduced(logarithm: tf.Tensor | None, operation: tf.Operation) -> tf.Tensor | None:
    """Return the logarithm of what an operation makes of numbers of which it is known."""
    if logarithm is None:
        return None
    kept = operation.get_attr("keep_dims")
    return REDUCED[operation.type](logarithm, operation.inputs[1], keepdims=kept)


def _product(x: tf.Tensor, depth: int) -> tf.Tensor | None:
    """Return the logarithm of a product of at least one exponential and of positive factors."""
    operation = x.op
    if operation.type == SAME and depth > 0:
        return _product(operation.inputs[0], depth - 1)
    known = log_of_function(operation)
    if known is not None:
        return known
    if operation.type == "Sub":
        whole, less = operation.inputs
        return _log_of_rest_of(whole, less, depth)
    if operation.type in POWERS and depth > 0:
        logarithm = stable_log(operation.inputs[0], depth - 1)
        return None if logarithm is None else POWERS[operation.type] * logarithm
    if operation.type in MATRICES:
        return _joined(operation.inputs, log_of_factor, depth - 1, _log_of_matrices(operation))
    if operation.type not in PRODUCTS:
        return None
    return _joined(operation.inputs, log_of_factor, depth - 1, PRODUCTS[operation.type])


def _joined(
    parts: Sequence[tf.Tensor],
    other: Callable[[tf.Tensor], tf.Tensor | None],
    depth: int,
    join: Callable[[tf.Tensor, tf.Tensor], tf.Tensor],
) -> tf.Tensor | None:
    """Return the joined logarithms of two parts, of which one is made of exponentials and the
    `other` may be something else; None where neither is, or one is not known to be positive.
    """
    if all(part.op.type in LOOKED_THROUGH for part in parts):
        depth -= BRANCHING
    one, two = parts
    left, right = stable_log(one, depth), stable_log(two, depth)  # not in a loop, for its frame
    if left is None and right is None:
        return None
    left, right = other(one) if left is None else left, other(two) if right is None else right
    return None if left is None or right is None else join(left, right)


def _log_of_matrices(operation: tf.Operation) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """Return what makes of the logarithms of two matrices that of their product."""
    turned = [operation.get_attr(name) for name in MATRICES[operation.type]]

    def logarithm(*logarithms: tf.Tensor) -> tf.Tensor:
        left, right = (
            tf.linalg.matrix_transpose(each) if transposed else each
            for each, transposed in zip(logarithms, turned, strict=True)
        )
        each = tf.expand_dims(left, -1) + tf.expand_dims(right, -3)
        return tf.reduce_logsumexp(each, axis=-2)

    return logarithm


def log_of_sum(left: tf.Tensor, right: tf.Tensor) -> tf.Tensor:
    greater = tf.stop_gradient(tf.maximum(left, right))
    return greater + tf.math.log(tf.exp(left - greater) + tf.exp(right - greater))


def _log_of_difference(left: tf.Tensor, right: tf.Tensor) -> tf.Tensor:
    return left + log_of_one_less(right - left)


def _log_of_rest_of(whole: tf.Tensor, x: tf.Tensor, depth: int) -> tf.Tensor | None:
    """Return log(whole - x) where at least one of them is made of exponentials."""
    if is_all(whole, 1):
        return _log_of_rest(x, depth)
    return _joined((whole, x), log_of_constant, depth - 1, _log_of_difference)


def _log_of_rest(x: tf.Tensor, depth: int) -> tf.Tensor | None:
    """Return log(1 - x) where x is made of exponentials, as a sigmoid or the square of a tanh,
    which come to 1.
    """
    operation = x.op
    if operation.type == SAME and depth > 0:
        return _log_of_rest(operation.inputs[0], depth - 1)
    if operation.type == "Sigmoid":
        return -tf.math.softplus(operation.inputs[0])
    squared = base_of_square(x)
    if squared is not None and squared.op.type == "Tanh":
        return -2.0 * log_of_cosh(squared.op.inputs[0])
    logarithm = stable_log(x, depth)
    return None if logarithm is None else log_of_one_less(logarithm)


def log_of_constant(x: tf.Tensor) -> tf.Tensor | None:
    """Return the logarithm of a constant above 0, such as what keeps a sum from being 0."""
    known = tf.get_static_value(x)
    return tf.math.log(x) if known is not None and (known > 0).all() else None


def log_of_factor(x: tf.Tensor) -> tf.Tensor | None:
    """Return the logarithm of what is never negative; of 0 a number so low that no exponent makes
    up for it.
    """
    if not _is_positive(x, SIGN_DEPTH):
        return None
    some = x > 0
    # Of what is left out, no infinite slope may come back.
    return tf.where(some, tf.math.log(tf.where(some, x, tf.ones_like(x))), left_out(x.dtype))


def left_out(dtype: tf.DType) -> tf.Tensor:
    """Return an exponent so low that nothing makes up for it, and that is finite."""
    return tf.constant(float(finfo(dtype.as_numpy_dtype).min) / 4, dtype)


def _is_positive(x: tf.Tensor, depth: int) -> bool:
    """Say whether a tensor can hold no number below 0, as far as its graph shows."""
    known, operation = tf.get_static_value(x), x.op
    if known is not None:
        return bool((known >= 0).all())
    if operation.type in POSITIVE:
        return True
    given = [each for each in operation.inputs if each.dtype.is_floating]
    if not given or not depth:
        return operation.type == "Cast" and operation.inputs[0].dtype is tf.bool
    positive = [_is_positive(each, depth - 1) for each in given]
    return (
        any(positive)
        if operation.type == "Maximum"
        else (operation.type in KEEPS_SIGN and all(positive))
    )
