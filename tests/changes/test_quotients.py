"""Quotients of exponentials in their stable form: what float64 gives, value and gradient."""

import numpy as np
import pytest
import tensorflow as tf
from guarding import check_against_float64, guard_of, value_and_slope
from keras import ops

from nanfix.changes.graph_guard import guarded
from nanfix.records.unsafe_operations import SHARES_OF_EXPONENTIALS

BY_HAND = {
    "sigmoid": lambda x: 1.0 / (1.0 + ops.exp(-x)),
    "sigmoid of exp": lambda x: tf.exp(x) / (1.0 + tf.exp(x)),
    "less": lambda x: -2.0 / (1.0 + ops.exp(-x)),
    "scaled": lambda x: ops.max(x) / (2.0 + ops.exp(-x)),
    "swish": lambda x: x / (1.0 + ops.exp(-x)),
    "tanh": lambda x: (tf.exp(x) - tf.exp(-x)) / (tf.exp(x) + tf.exp(-x)),
    "tanh of twice": lambda x: (ops.exp(2.0 * x) - 1.0) / (ops.exp(2.0 * x) + 1.0),
    "tanh of a sigmoid": lambda x: 2.0 / (1.0 + ops.exp(-2.0 * x)) - 1.0,
    "two": lambda x: ops.exp(x) / (ops.exp(x) + ops.exp(1.0 - x)),
    "kept from 0": lambda x: (
        ops.exp(x[:, None] * [1.0, -2.0])
        / (ops.sum(ops.exp(x[:, None] * [1.0, -2.0]), axis=1, keepdims=True) + 1e-7)
    )[:, 0],
    "at least": lambda x: tf.exp(x) / tf.maximum(tf.exp(x) + tf.exp(-x), 1e-7),
    "gate": lambda x: x * (0.5 + 1.0 / (ops.exp(-3.0 * x) + 1.0)),
}


@pytest.mark.parametrize("jit_compile", [False, True], ids=["plain", "xla"])
@pytest.mark.parametrize("form", BY_HAND)
def test_activations_and_gates_by_hand(form, jit_compile):
    function, guard = BY_HAND[form], guard_of(SHARES_OF_EXPONENTIALS, BY_HAND[form])
    check_against_float64(function, guard, [-30.0, -3.0, 0.0, 1.5, 20.0], jit_compile, rtol=2e-5)
    far = value_and_slope(function, guard, np.float32([-200.0, 95.0]), jit_compile=jit_compile)
    assert np.isfinite(far).all()
    assert not np.isfinite(value_and_slope(function, None, np.float32([-200.0, 200.0]))).all()


def test_a_tiny_number_that_keeps_a_sum_from_0_counts_for_nothing():
    def share(x):
        weights = ops.exp(x[:, None] + [0.0, 1.0])
        return (weights / (ops.sum(weights, axis=1, keepdims=True) + 1e-6))[:, 1]

    value, _ = value_and_slope(
        share, guard_of(SHARES_OF_EXPONENTIALS, share, 2), np.float32([-100.0, 0.0, 100.0])
    )
    np.testing.assert_allclose(value, 3 * [0.7310586], rtol=1e-5)


@pytest.mark.parametrize(
    "quotient", [lambda x: x / 2.0, lambda x: x / (1.0 + x), lambda x: x / (ops.exp(x) - 3.0)]
)
def test_a_quotient_of_anything_else_is_left_alone(quotient):
    x = np.float32([-2.0, 0.5, 3.0])
    plain, kept = (
        value_and_slope(quotient, guard, x)
        for guard in (None, guard_of(SHARES_OF_EXPONENTIALS, quotient))
    )
    np.testing.assert_array_equal(plain, kept)


def in_turn(x):
    """Rows and columns of a kernel scaled in turn, as for a transport."""
    kernel = ops.exp(-ops.square(x[:, None, None] - [[0.0, 1.0], [2.0, 4.0]]))
    for _ in range(4):
        kernel = kernel / ops.sum(kernel, axis=1, keepdims=True)
        kernel = kernel / ops.sum(kernel, axis=2, keepdims=True)
    return kernel[:, 0, 1]


def of_kernels(x):
    weights = ops.exp(-ops.square(x[:, None] - [0.0, 3.0]))
    return (weights / ops.sum(weights, axis=-1)[:, None])[:, 1]


TABLE = np.float32([[1.0, 2.0, 0.5], [3.0, 0.2, 0.1]])


def mean_of(weights, values):
    return ops.sum(weights * values, axis=1) / ops.sum(weights, axis=1)


def of_matrices(weights):
    return (ops.matmul(weights, TABLE) / ops.sum(weights, axis=-1, keepdims=True))[:, 2]


SHARES = {
    "softmax": lambda x: (
        ops.exp(x[:, None] * [1.0, -2.0])
        / ops.sum(ops.exp(x[:, None] * [1.0, -2.0]), axis=1, keepdims=True)
    )[:, 0],
    "in turn": in_turn,
    "kernels": of_kernels,
    "mean": lambda x: mean_of(ops.exp(x[:, None] * [1.0, -2.0]), [3.0, 1.0]),
    "mean of vectors": lambda x: mean_of(ops.exp(x[:, None] * [1.0, -2.0])[..., None], TABLE)[:, 1],
    "mean by matrices": lambda x: of_matrices(ops.exp(x[:, None] * [1.0, -2.0])),
    "two": lambda x: tf.exp(x) / (tf.exp(x) * tf.exp(-0.5 * x)),
}


@pytest.mark.parametrize("jit_compile", [False, True], ids=["plain", "xla"])
@pytest.mark.parametrize("form", SHARES)
def test_shares_of_exponentials(form, jit_compile):
    function, guard = SHARES[form], guard_of(SHARES_OF_EXPONENTIALS, SHARES[form])
    points = [-3.0, 0.0, 1.5, 4.0]
    check_against_float64(function, guard, points, jit_compile, rtol=2e-5)
    far = value_and_slope(function, guard, np.float32([-60.0, 70.0]))
    assert np.isfinite(far[0]).all() and np.isfinite(far[1]).all()


def by_product(weights, mask):
    weights = weights * ops.cast(mask, weights.dtype)
    return weights / ops.sum(weights, axis=1, keepdims=True)


def by_where(weights, mask):
    weights = ops.where(mask, weights, 0.0)
    return weights / ops.sum(weights, axis=1, keepdims=True)


def of_values(weights, mask):
    weights = weights * tf.cast(mask, weights.dtype)
    values = ops.convert_to_tensor([1.0, 2.0, 0.5], weights.dtype)
    return ops.sum(weights * values, axis=1) / ops.sum(weights, axis=1)


def of_kept(x, shared):
    """Three exponentials a row, of which a mask leaves those below 3."""
    exponents = x[:, None] * np.array([1.0, -2.0, 0.5], x.dtype.name)
    return shared(ops.exp(exponents), exponents < 3.0)


def by_zeros_like(weights, mask):
    weights = tf.where(mask, weights, tf.zeros_like(weights))
    return weights / tf.reduce_sum(weights, axis=1, keepdims=True)


MASKED = {
    "zeros like": lambda x: of_kept(x, by_zeros_like)[:, 1],
    "product": lambda x: of_kept(x, by_product)[:, 1],
    "where": lambda x: of_kept(x, by_where)[:, 1],
    "mean": lambda x: of_kept(x, of_values),
    "part": lambda x: of_kept(
        x, lambda e, mask: e * ops.cast(mask, e.dtype) / ops.sum(e, 1)[:, None]
    )[:, 0],
}


@pytest.mark.parametrize("jit_compile", [False, True], ids=["plain", "xla"])
@pytest.mark.parametrize("form", MASKED)
def test_shares_of_what_a_mask_leaves(form, jit_compile):
    function, guard = MASKED[form], guard_of(SHARES_OF_EXPONENTIALS, MASKED[form])
    check_against_float64(function, guard, [-1.4, 0.0, 1.5, 2.5, 8.0], jit_compile, rtol=2e-5)
    far = value_and_slope(function, guard, np.float32([-70.0, 90.0, 200.0]))
    assert np.isfinite(far[0]).all() and np.isfinite(far[1]).all()


def masked_by_what_is_given(exponents, mask, guard):
    """Return the shares that a layer computes of scores and of a mask that it is given."""

    @tf.function(autograph=False)
    def shares(exponents, mask):
        with guarded(guard):
            weights = tf.exp(exponents) * mask
            return weights / tf.reduce_sum(weights, axis=1, keepdims=True)

    return shares(tf.constant(exponents), tf.constant(mask)).numpy()


def test_a_mask_that_is_given_may_not_be_negative():
    guard = guard_of(SHARES_OF_EXPONENTIALS, masked_by_what_is_given)
    exponents = np.float32([[100.0, 99.0, 500.0], [1.0, 2.0, 3.0]])
    kept = masked_by_what_is_given(exponents, np.float32([[1, 1, 0], [0, 0, 0]]), guard)
    np.testing.assert_allclose(kept, [[0.7310586, 0.2689414, 0.0], [0, 0, 0]], rtol=1e-5)
    signed = masked_by_what_is_given(exponents, np.float32([[1, 1, 0], [1, -1, 1]]), guard)
    assert np.isfinite(signed[0]).all() and np.isnan(signed[1]).any()


@pytest.mark.parametrize("shared", [by_product, by_where, by_zeros_like, of_values])
def test_a_row_of_which_a_mask_leaves_nothing_has_shares_of_0(shared):
    def emptied(x):
        return shared(ops.exp(x[:, None] * [1.0, 2.0, 3.0]), x[:, None] * [1.0, 1.0, 1.0] < 2.0)

    value, slope = value_and_slope(
        emptied, guard_of(SHARES_OF_EXPONENTIALS, shared), np.float32([1.0, 3.0])
    )
    assert np.isfinite(value).all() and (value[0] != 0).all() and (value[1] == 0).all()
    assert np.isfinite(slope).all() and slope[1] == 0
