"""Logarithms of exponentials in their stable form: what float64 gives, value and gradient."""

import numpy as np
import pytest
import tensorflow as tf
from guarding import check_against_float64, guard_of, line_of, value_and_slope
from keras import ops

from nanfix.changes.exponentials import stable_log
from nanfix.changes.guards import Guard
from nanfix.records.unsafe_operations import LOG_OF_EXPONENTIALS


def mixture(x):
    """The density of a mixture of two normal distributions, as it is written by hand."""
    shares = ops.softmax(ops.stack([x, -x], axis=-1))
    means, deviations = ops.convert_to_tensor(np.array([0.0, 3.0], x.dtype.name)), 0.5
    z = (x[:, None] - means) / deviations
    densities = ops.exp(-0.5 * ops.square(z)) / (deviations * np.sqrt(2 * np.pi))
    return ops.log(ops.sum(shares * densities, axis=-1))


def recursion(x):
    """Two steps of the forward algorithm of a hidden Markov model."""
    forward = x[:, None] + [0.0, 1.0]
    for _ in range(2):
        steps = forward[:, :, None] + [[0.0, -1.0], [2.0, 0.5]]
        forward = ops.log(ops.sum(ops.exp(steps), axis=1))
    return forward[:, 0]


def product_of_matrices(x):
    """The same in probabilities: the sum over all paths is a product of matrices."""
    step = ops.exp(ops.convert_to_tensor(np.array([[0.0, -1.0], [2.0, 0.5]], x.dtype.name)))
    paths = ops.exp(x[:, None] * np.array([1.0, 0.5], x.dtype.name))
    for turned in (False, True, False):
        paths = tf.matmul(paths, step, transpose_b=turned) * ops.exp(x[:, None])
    return ops.log(ops.sum(paths, axis=1))


def matrices(x):
    """Matrices of 11 columns, whose determinant is the eleventh power of how large they are."""
    size = ops.eye(11, dtype=x.dtype.name) + 0.1
    return (1.0 + ops.square(x))[:, None, None] * size


FORMS = {
    "determinant": lambda x: ops.log(tf.linalg.det(matrices(x))),
    "size of a determinant": lambda x: tf.math.log(tf.abs(tf.linalg.det(-matrices(x)))) + 1.0,
    "matrices": product_of_matrices,
    "sum": lambda x: ops.log(ops.sum(ops.exp(x[:, None] * [1.0, -2.0]), axis=1)),
    "kept": lambda x: ops.log(ops.sum(ops.exp(x[:, None]), axis=1, keepdims=True))[:, 0],
    "recursion": recursion,
    "one": lambda x: tf.math.log(tf.exp(-x)),
    "density": lambda x: ops.log(ops.exp(-0.5 * ops.square(x)) / np.sqrt(2 * np.pi)),
    "softplus": lambda x: ops.log(1.0 + ops.exp(x)),
    "floor": lambda x: ops.log(ops.exp(-ops.square(x)) + 1e-30),
    "quotient": lambda x: ops.log(ops.exp(x) / ops.sum(ops.exp(x[:, None] * [1.0, 2.0]), axis=1)),
    "mixture": mixture,
    "cosh": lambda x: ops.log(ops.cosh(x)),
    "bessel": lambda x: tf.math.log(2.0 * np.pi * tf.math.bessel_i0(x)),
    "sigmoid": lambda x: ops.log(ops.sigmoid(x)),
    "rest of a sigmoid": lambda x: ops.log(1.0 - ops.sigmoid(x)),
    "rest of a squared tanh": lambda x: ops.log(1.0 - ops.square(ops.tanh(x))),
    "rest of a tanh to the power": lambda x: tf.math.log(1.0 - tf.tanh(x) ** 2),
    "log1p of a squared tanh": lambda x: ops.log1p(-ops.square(ops.tanh(x))),
    "log1p": lambda x: ops.log1p(ops.exp(x)),
    "softmax": lambda x: ops.log(ops.softmax(x[:, None] * np.array([1.0, -1.0], x.dtype.name)))[
        :, 0
    ],
    "log of a softplus": lambda x: ops.log(ops.softplus(x)),
    "root": lambda x: ops.log(ops.sqrt(ops.exp(x))),
    "reciprocal": lambda x: ops.log(1.0 / (1.0 + ops.exp(-x))),
    "mean": lambda x: ops.log(ops.mean(ops.exp(x[:, None] * [1.0, -2.0]), axis=1)),
    "mean of all": lambda x: x - tf.math.log(tf.reduce_mean(tf.exp(x))),
    "greatest": lambda x: ops.log(ops.max(ops.exp(x[:, None] * [1.0, -2.0]), axis=1)),
    "least": lambda x: ops.log(ops.min(ops.exp(x[:, None] * [1.0, -2.0]), axis=1)),
    "product": lambda x: ops.log(ops.prod(ops.exp(x[:, None] * [1.0, -2.0]), axis=1)),
}
# Of numbers above 0: where the exponential is about 1, its rest is lost; where it is great, all.
DIFFERENCES = {
    "exp less 1": lambda x: ops.log(ops.exp(x) - 1.0),
    "expm1": lambda x: ops.log(ops.expm1(x)),
    "sinh": lambda x: tf.math.log(tf.sinh(x)),
    "bessel of order 1": lambda x: tf.math.log(tf.math.bessel_i1(x)),
    "1 less exp": lambda x: tf.math.log(1.0 - tf.exp(-x)),
    "log1p of minus exp": lambda x: ops.log1p(-ops.exp(-x)),
    "difference": lambda x: ops.log(ops.exp(2.0 * x) - ops.exp(x)),
    "interval": lambda x: ops.log(ops.sigmoid(1.0 + x) - ops.sigmoid(1.0 + 0.0 * x)),
}
# Where float64 itself has the numbers to compare with.
NARROW = ("density", "mixture", "rest of a sigmoid", *(form for form in FORMS if "tanh" in form))
POINTS = [-200.0, -3.0, 0.0, 2.0, 90.0, 500.0]


@pytest.mark.parametrize("jit_compile", [False, True], ids=["plain", "xla"])
@pytest.mark.parametrize("form", FORMS)
def test_value_and_gradient_are_those_of_wider_numbers(form, jit_compile):
    if jit_compile and ("bessel" in form or "determinant" in form):
        pytest.skip("XLA knows no Bessel functions and no determinants")
    function = FORMS[form]
    guard = guard_of(LOG_OF_EXPONENTIALS, function)
    wide = np.float64([p for p in POINTS if abs(p) < (20 if form in NARROW else 95)])
    check_against_float64(function, guard, wide, jit_compile, rtol=2e-5)
    far = value_and_slope(function, guard, np.float32(POINTS))
    assert np.isfinite(far[0]).all() and np.isfinite(far[1]).all()


@pytest.mark.parametrize("jit_compile", [False, True], ids=["plain", "xla"])
@pytest.mark.parametrize("form", DIFFERENCES)
def test_differences_of_exponentials(form, jit_compile):
    if jit_compile and "bessel" in form:
        pytest.skip("XLA knows no Bessel functions")
    function = DIFFERENCES[form]
    guard = guard_of(LOG_OF_EXPONENTIALS, function)
    points = [1e-2, 0.5, 0.7, 3.0, 30.0]  # float64 has ten digits of all of them
    check_against_float64(function, guard, points, jit_compile, rtol=1e-4)
    # The plain form has lost them in float32.
    far = value_and_slope(function, guard, np.float32([1e-8, 95.0]), jit_compile=jit_compile)
    assert np.isfinite(far).all() or (form == "interval" and np.isfinite(far[0][1]))
    # What is not defined stays so.
    assert not np.isfinite(value_and_slope(function, guard, np.float32([-1.0]))[0]).any()


PRODUCTS = {
    "entropy": (lambda x: x * ops.log(x), [0.0, -0.5 * np.log(2), 0.0]),
    "of a mask": (lambda x: ops.cast(x > 0, x.dtype) * ops.log(x), [0.0, -np.log(2), 0.0]),
    "log first": (lambda x: ops.log1p(x - 1.0) * (2.0 * x), [0.0, -np.log(2), 0.0]),
}


@pytest.mark.parametrize("jit_compile", [False, True], ids=["plain", "xla"])
@pytest.mark.parametrize("form", PRODUCTS)
def test_a_product_with_a_logarithm_is_0_where_its_factor_is(form, jit_compile):
    function, expected = PRODUCTS[form]
    guard = guard_of(LOG_OF_EXPONENTIALS, function)
    x = np.float32([0.0, 0.5, 1.0])
    value, slope = value_and_slope(function, guard, x, jit_compile=jit_compile)
    np.testing.assert_allclose(value, expected, atol=1e-6)
    assert np.isfinite(slope).all()
    plain = value_and_slope(function, None, x)
    assert np.isnan(plain[0][0])
    np.testing.assert_allclose(slope[1:], plain[1][1:], rtol=1e-6)


@pytest.mark.parametrize("jit_compile", [False, True], ids=["plain", "xla"])
def test_factors_of_another_shape(jit_compile):
    def entropies(x):
        shares = x[:, None] * np.float32([1.0, 2.0])
        return ops.sum(np.float32([0.0, 1.0]) * ops.log(shares), axis=1) + ops.sum(
            x[:, None] * ops.log(shares), axis=1
        )

    guard = Guard(LOG_OF_EXPONENTIALS, line_of(entropies, 1), None, 0.0)
    x = np.float32([0.25, 1.0])
    found = value_and_slope(entropies, guard, x, jit_compile=jit_compile)
    for seen, right in zip(found, value_and_slope(entropies, None, x), strict=True):
        np.testing.assert_allclose(seen, right, rtol=1e-6)


@pytest.mark.parametrize("factor", [lambda x: x, lambda x: ops.cast(ops.cast(x, "int32"), x.dtype)])
def test_what_may_be_negative_is_left_alone(factor):
    def of_difference(x):
        return ops.log(ops.sum(factor(x)[:, None] * ops.exp(x[:, None] * [1.0, 2.0]), axis=1))

    x = np.float32([-1.0, 1.0, 2.0])
    plain = value_and_slope(of_difference, None, x)
    guarded = value_and_slope(of_difference, guard_of(LOG_OF_EXPONENTIALS, of_difference), x)
    for before, after in zip(plain, guarded, strict=True):
        np.testing.assert_array_equal(before, after)


def test_what_a_mask_leaves_out_stays_out_however_great_it_is():
    def of_kept(x):
        kept = ops.cast(ops.stack([x < 50.0, x > 0.0], axis=1), x.dtype)
        return ops.log(ops.sum(kept * ops.exp(ops.stack([x, -x], axis=1)), axis=1))

    guard = guard_of(LOG_OF_EXPONENTIALS, of_kept)
    value, slope = value_and_slope(of_kept, guard, np.float32([-3.0, 60.0, 200.0]))
    np.testing.assert_allclose(value, [-3.0, -60.0, -200.0], rtol=1e-6)
    np.testing.assert_allclose(slope, [1.0, -1.0, -1.0], rtol=1e-5)


def test_where_no_gradient_goes_none_is_added():
    def with_constant(x):
        return x - ops.log(ops.stop_gradient(ops.sum(ops.exp(x[:, None] * [1.0, 2.0]), axis=1)))

    x = np.float32([-1.0, 2.0])
    guard = guard_of(LOG_OF_EXPONENTIALS, with_constant)
    plain, guarded = (value_and_slope(with_constant, each, x) for each in (None, guard))
    np.testing.assert_array_equal(plain[1], guarded[1])
    np.testing.assert_allclose(plain[0], guarded[0], rtol=1e-6)


@pytest.mark.parametrize(("steps", "reached"), [(69, True), (400, False)])
def test_a_recursion_is_looked_through_as_far_as_the_stack_goes(steps, reached):
    def paths(x):
        found = tf.exp(x)
        for _ in range(steps):
            found = tf.matmul(found, tf.ones((3, 3))) * tf.exp(x)
        return tf.reduce_sum(found, axis=1)

    with tf.Graph().as_default():
        assert (stable_log(paths(tf.zeros((2, 3)))) is not None) is reached


def test_a_tree_is_not_looked_through_to_its_end():
    with tf.Graph().as_default():
        tree = tf.exp(tf.zeros(3))
        for _ in range(60):
            tree = tree * tree + tree
        assert stable_log(tree) is None
