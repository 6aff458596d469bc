"""Differences that cancel: computed without it, they are what float64 gives, value and gradient."""

import numpy as np
import pytest
import tensorflow as tf
from guarding import guard_of, value_and_slope
from keras import ops

from nanfix.records.unsafe_operations import DIFFERENCES


def far_from_0(x):
    """Numbers whose mean is many times their deviation."""
    return 100.0 + x[:, None] * [1.0, 2.0, -0.5]


def of_squares(x):
    x = far_from_0(x)
    return ops.mean(ops.square(x), axis=-1) - ops.square(ops.mean(x, axis=-1))


def of_powers(x):
    x = far_from_0(x)
    mean = ops.mean(x, axis=-1, keepdims=True)
    return (ops.mean(x**2, axis=-1, keepdims=True) - mean**2)[:, 0]


def of_products(x):
    x = far_from_0(x)
    mean = tf.reduce_mean(x, 1)
    return tf.reduce_mean(x * x, 1) - mean * mean


FORMS = {
    "variance": of_squares,
    "variance by powers": of_powers,
    "variance by products": of_products,
    "1 - exp(x)": lambda x: 1.0 - ops.exp(-x),
    "exp(x) - 1": lambda x: (ops.exp(x * 1e-3) - 1.0) * 1e3,
    "1 - cos(x)": lambda x: 1.0 - tf.cos(x),
}
TINY = [1e-6, 1e-4, 1e-2, 1.0, 3.0]


@pytest.mark.parametrize("jit_compile", [False, True], ids=["plain", "xla"])
@pytest.mark.parametrize("form", FORMS)
def test_value_and_gradient_are_those_of_wider_numbers(form, jit_compile):
    function = FORMS[form]
    guard = guard_of(DIFFERENCES, function)
    points = TINY[-3:] if "variance" in form else TINY
    expected = value_and_slope(function, None, np.float64(points))
    found = value_and_slope(function, guard, np.float32(points), jit_compile=jit_compile)
    rtol = 2e-2 if "variance" in form else 2e-4  # the numbers themselves are rounded
    for seen, right in zip(found, expected, strict=True):
        np.testing.assert_allclose(seen, right, rtol=rtol)


def test_no_variance_is_below_0():
    function = FORMS["variance"]
    rows = np.float32(np.linspace(0.0, 1e-4, 200))
    plain = value_and_slope(function, None, rows)[0]
    stable = value_and_slope(function, guard_of(DIFFERENCES, function), rows)[0]
    assert (plain < 0).any() and (stable >= 0).all()


OTHERS = {
    "two means": lambda x: ops.mean(x[:, None] ** 2, -1) - ops.mean(2.0 * x[:, None], -1) ** 2,
    "no squares": lambda x: ops.mean(x[:, None] ** 3, -1) - ops.mean(x[:, None], -1) ** 2,
    "two axes": lambda x: ops.mean(far_from_0(x) ** 2) - ops.mean(far_from_0(x), axis=1) ** 2,
    "from 2": lambda x: 2.0 - ops.exp(x),
    "of a sine": lambda x: 1.0 - ops.sin(x),
}


@pytest.mark.parametrize("form", OTHERS)
def test_other_differences_are_left_alone(form):
    function, rows = OTHERS[form], np.float32(TINY)
    plain = value_and_slope(function, None, rows)
    guarded = value_and_slope(function, guard_of(DIFFERENCES, function), rows)
    np.testing.assert_array_equal(plain, guarded)
