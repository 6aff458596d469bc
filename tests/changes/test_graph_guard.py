"""Guards: the guarded operation and its gradient in exact numbers, and nothing else touched."""

from contextlib import ExitStack
from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf
from guarding import E, guard_of, line_of, value_and_slope
from keras import ops

from nanfix.changes.domains_in_graph import IN_GRAPH, kept
from nanfix.changes.graph_guard import guarded, install
from nanfix.changes.guards import Guard
from nanfix.model.addresses import walk
from nanfix.model.operations import traced
from nanfix.private.tensorflow import functions_run_eagerly
from nanfix.records.domains import BASE, REGULAR, domain_of_base, kind_of_exponent
from nanfix.records.unsafe_operations import SQUEEZED, UNSAFE_OPERATIONS

CASES = [
    ("Sqrt", lambda x: ops.sqrt(x), [-1, 0, 4], [0.01, 0.01, 2], [0, 0, 0.25]),
    ("Rsqrt", lambda x: ops.rsqrt(x), [-1, 0, 4], [100, 100, 0.5], [0, 0, -0.0625]),
    ("Log", lambda x: ops.log(x), [-1, 0, 4], [np.log(E), np.log(E), np.log(4)], [0, 0, 0.25]),
    ("Log1p", lambda x: ops.log1p(x), [-2, -1, 3], [np.log(E), np.log(E), np.log(4)], [0, 0, 0.25]),
    ("RealDiv", lambda x: 1 / x, [-1e-6, 0, 1e-6, 2], [-1e4, 1e4, 1e4, 0.5], [0, 0, 0, -0.25]),
    (SQUEEZED, lambda x: 1 / x, [0, 2], [1e4, 0.5], [0, -0.25]),
    ("RealDiv", lambda x: x / ops.stop_gradient(x), [0, -2], [0, 1], [1e4, -0.5]),
    (
        "DivNoNan",
        lambda x: tf.math.divide_no_nan(1.0, x),
        [0, -1e-6, 2],
        [0, -1e4, 0.5],
        [0, 0, -0.25],
    ),
    ("Reciprocal", lambda x: tf.math.reciprocal(x), [-1e-6, 0, 2], [-1e4, 1e4, 0.5], [0, 0, -0.25]),
    ("Exp", lambda x: ops.exp(x), [1000, 100, 1], [1e4, 1e4, np.e], [0, 0, np.e]),
    ("Pow", lambda x: ops.power(x, 0.5), [-1, 0, 4], [0.01, 0.01, 2], [0, 0, 0.25]),
    ("Pow", lambda x: ops.power(x, -1.0), [-1e-6, 0, -2], [-1e4, 1e4, -0.5], [0, 0, -0.25]),
    ("Pow", lambda x: ops.power(x, 3.0), [-2, 0, 1e-5], [-8, 0, 1e-15], [12, 0, 3e-10]),
    ("Expm1", lambda x: ops.expm1(x), [1000, 0], [1e4 - 1, 0], [0, 1]),
    ("Cosh", lambda x: tf.math.cosh(x), [-1000, 1000, 0], [5000, 5000, 1], [0, 0, 0]),
    ("Sinh", lambda x: tf.math.sinh(x), [-1000, 1000, 0], [-5000, 5000, 0], [0, 0, 1]),
    ("Softmax", lambda x: tf.nn.softmax(x), [-np.inf, -np.inf], [0.5, 0.5], [0, 0]),
    ("Softmax", lambda x: tf.nn.softmax(x), [-np.inf, 3], [0, 1], [0, 0]),
    ("LogSoftmax", lambda x: tf.nn.log_softmax(x), [-np.inf, -np.inf], [np.log(0.5)] * 2, [0, 0]),
    ("Mul by infinity", lambda x: x * tf.zeros_like(x), [-np.inf, np.inf, 3], [0, 0, 0], [0, 0, 0]),
    ("Mul by infinity", lambda x: 2 * x, [-3, 0.5], [-6, 1], [2, 2]),
    ("Xlogy", lambda x: tf.math.xlogy(2 * tf.ones_like(x), x), [0, 1], [2 * np.log(E), 0], [0, 2]),
    (
        "Xlog1py",
        lambda x: tf.math.xlog1py(2 * tf.ones_like(x), x),
        [-2, 0],
        [2 * np.log(E), 0],
        [0, 2],
    ),
    ("Mean", lambda x: tf.reduce_mean(x[x > 0]) + x, [-1, -2], [-1, -2], [1, 1]),
    ("Mean", lambda x: ops.mean(ops.zeros((1, 0), x.dtype), axis=-1) * x, [3, 4], [0, 0], [0, 0]),
    ("Mean", lambda x: tf.reduce_mean(x) * tf.ones_like(x), [1, 5], [3, 3], [1, 1]),
    ("Max", lambda x: tf.reduce_max(x[x > 0]) * x, [-1, -2], [0, 0], [0, 0]),
    ("Min", lambda x: x + tf.reduce_min(x[x > 2]), [1, 5], [6, 10], [1, 3]),
    ("Lgamma", lambda x: tf.math.lgamma(x), [0, 1], [-np.log(E), 0], [0, -0.5772]),
    ("Digamma", lambda x: tf.math.digamma(x), [0, 1], [-1 / E, -0.5772], [0, np.pi**2 / 6]),
    ("Erfinv", lambda x: tf.math.erfinv(x), [0], [0], [np.sqrt(np.pi) / 2]),
    ("Atan2", lambda x: tf.math.atan2(tf.zeros_like(x), x), [0, 2], [0, 0], [0, 0]),
    ("FloorMod", lambda x: tf.math.floormod(tf.ones_like(x), x), [2], [1], [0]),
    ("Pow", lambda x: x**0.5, [0, 4], [E**0.5, 2], [0, 0.25]),  # a number of Python's
    ("RealDiv", lambda x: x / 0.0, [2], [2 / E], [1 / E]),
    ("Acos", lambda x: ops.arccos(x), [1, 2, 0], [np.arccos(1 - E)] * 2 + [np.pi / 2], [0, 0, -1]),
    ("Asin", lambda x: ops.arcsin(x), [-1, -2, 0], [np.arcsin(E - 1)] * 2 + [0], [0, 0, 1]),
    (
        "Acosh",
        lambda x: ops.arccosh(x),
        [0, 1, 2],
        [np.arccosh(1 + E)] * 2 + [np.arccosh(2)],
        [0, 0, 3**-0.5],
    ),
    (
        "Atanh",
        lambda x: ops.arctanh(x),
        [-1, 2, 0],
        [np.arctanh(E - 1), np.arctanh(1 - E), 0],
        [0, 0, 1],
    ),
]


NOT_IN_HALF = {"Lgamma", "Digamma", "Erfinv"}
MATRICES = {"Cholesky", "MatrixInverse"}


@pytest.mark.parametrize("jit_compile", [False, True], ids=["plain", "xla"])
@pytest.mark.parametrize(
    ("operation", "function", "x", "value", "slope"),
    CASES,
    ids=lambda case: case if isinstance(case, str) else "",
)
def test_value_and_gradient_at_the_edge(operation, function, x, value, slope, jit_compile):
    found = value_and_slope(
        function, guard_of(operation, function), np.float32(x), jit_compile=jit_compile
    )
    np.testing.assert_allclose(found[0], value, rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(found[1], slope, rtol=1e-3)


@pytest.mark.parametrize(
    ("operation", "function", "x", "value", "slope"),
    [case for case in CASES if case[2] != [-np.inf, np.inf, 3]],  # the product is kept otherwise
    ids=lambda case: case if isinstance(case, str) else "",
)
def test_a_step_that_is_looked_at_eagerly_is_guarded_alike(operation, function, x, value, slope):
    layer = keras.layers.Lambda(function)
    guard, x = guard_of(operation, function), tf.constant(np.float32(x))
    kinds: list[str] = []
    with (
        ExitStack() as guards,
        functions_run_eagerly(True),
        traced(lambda seen: kinds.append(seen.kind)),
        tf.GradientTape() as tape,
    ):
        model = keras.Sequential([layer])
        (address,) = (address for address, each in walk(model) if each is layer)
        install(model, [replace(guard, layer=address)], guards)
        tape.watch(x)
        found = layer.call(x)
    assert UNSAFE_OPERATIONS[operation].kind in kinds  # it is no graph, which hides them
    np.testing.assert_allclose(found, value, rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(tape.gradient(found, x), slope, rtol=1e-3)


def test_every_operation_has_a_case_and_every_domain_what_keeps_it_in_a_graph():
    assert set(UNSAFE_OPERATIONS) == {case[0] for case in CASES} | MATRICES
    assert set(IN_GRAPH) == {operation.domain for operation in UNSAFE_OPERATIONS.values()}


DOMAINS = [
    (domain, e)
    for domain in IN_GRAPH
    if domain is not BASE
    for e in (1e-7, E, *([] if domain.at_zero is None else [0.0]))
]


@pytest.mark.parametrize(("domain", "e"), DOMAINS, ids=lambda part: getattr(part, "name", part))
def test_graph_source_and_words_keep_an_operand_in_its_domain_alike(domain, e):
    x = tf.constant(
        np.float32(
            [[0.5, 0], [0, -2]]
            if domain is REGULAR
            else [-1e3, -2, -1, -1e-9, 0, 1e-9, 0.5, 1, 2, 1e3]
        )
    )
    names = {"x": x, "ops": ops, "inf": np.inf}
    text, helper = domain.source(e)
    if helper is not None:
        exec(helper.code.format(package="ops", reduce=""), names)
    expected = IN_GRAPH[domain](x, e).numpy()
    np.testing.assert_allclose(eval(text.format(x="x"), names), expected, rtol=1e-3)
    np.testing.assert_allclose(eval(domain.words("x", e), names), expected, rtol=1e-3)


@pytest.mark.parametrize("exponent", [0.5, -0.5, -1.0, -2.0, 2.0, 1.0])
def test_a_base_is_kept_where_its_exponent_asks(exponent):
    x = tf.constant(np.float32([-2, -1e-9, 0, 1e-9, 3]))
    domain = domain_of_base(kind_of_exponent(exponent))
    expected = x if domain is None else IN_GRAPH[domain](x, E)
    np.testing.assert_array_equal(IN_GRAPH[BASE](x, E, tf.constant(exponent)), expected)


@pytest.mark.parametrize(
    ("exponents", "kept"),
    [
        ([2.0, 3.0], -2.0),
        ([2.0, -1.0], -2.0),
        ([2.0, 0.5], E),
        ([[2.0, 0.5]], E),
        ([[[2.0], [0.5]]], E),
    ],
)
def test_a_base_of_several_exponents_is_kept_for_all_of_them(exponents, kept):
    """In a graph an operation can be given no tensor of another shape."""

    @tf.function(autograph=False)
    def power(x):
        with guarded(guard_of("Pow", power.python_function, 3)):
            return x ** tf.constant(exponents)

    x = tf.constant([[-2.0]] if np.ndim(exponents) > 1 else [-2.0])
    np.testing.assert_allclose(power(x), kept ** tf.constant(exponents), rtol=1e-5)


def test_singular_matrices_get_an_epsilon_on_their_diagonal():
    def factored(x):
        return tf.linalg.cholesky(x[:, None] * x[None, :])

    value, slope = value_and_slope(factored, guard_of("Cholesky", factored, 1), np.float32([1, 1]))
    np.testing.assert_allclose(value @ value.T, [[1 + E, 1], [1, 1 + E]], rtol=1e-4)
    assert np.isfinite(slope).all()

    def inverted(x):
        return tf.linalg.inv(x[:, None] * x[None, :])

    value, _ = value_and_slope(inverted, guard_of("MatrixInverse", inverted, 1), np.float32([0, 0]))
    np.testing.assert_allclose(value, np.eye(2) / E, rtol=1e-3)


@pytest.mark.parametrize("epsilon", [1e-10, 1e-4])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize(
    ("operation", "function"),
    [(case[0], case[1]) for case in CASES],
    ids=[case[0] for case in CASES],
)
def test_gradient_is_finite_at_the_edge_in_every_precision(operation, function, dtype, epsilon):
    if operation in NOT_IN_HALF and dtype in ("float16", "bfloat16"):
        pytest.skip("TensorFlow has no such operation on CPU")
    x = np.float64([-1, -1e-12, 0, 1e-12, 1, 3]).astype(tf.as_dtype(dtype).as_numpy_dtype)
    found = value_and_slope(function, guard_of(operation, function, epsilon=epsilon), x)
    assert np.isfinite(found[0]).all() and np.isfinite(found[1]).all()


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("jit_compile", [False, True], ids=["plain", "xla"])
def test_what_is_divided_by_zero_counts_as_nothing_without_an_epsilon(dtype, jit_compile):
    def shares(x):
        return ops.stop_gradient(x + 1) / x

    x = np.array([0, 2, -0.5], dtype)
    value, slope = value_and_slope(
        shares, guard_of("RealDiv", shares, 1, epsilon=0.0), x, jit_compile=jit_compile
    )
    np.testing.assert_array_equal(value, [0, 1.5, -1])
    np.testing.assert_array_equal(slope, [0, -0.75, -2])


@pytest.mark.parametrize("jit_compile", [False, True], ids=["plain", "xla"])
def test_exponentials_relative_to_the_largest_leave_a_softmax_as_it_is(jit_compile):
    def shares(x):
        e = ops.exp(x)
        return (e / ops.sum(e, axis=-1, keepdims=True))[..., 0]

    guard = guard_of("Exp", shares, 1, epsilon=0.0)
    value, slope = value_and_slope(
        shares, guard, np.float32([[500, 500], [1, 0]]), jit_compile=jit_compile
    )
    p = 1 / (1 + np.exp(-1))
    np.testing.assert_allclose(value, [0.5, p], rtol=1e-6)
    np.testing.assert_allclose(slope, [[0.25, -0.25], [p * (1 - p), -p * (1 - p)]], rtol=1e-5)


def test_exponentials_can_still_be_added_up():
    function = CASES[8][1]
    value, _ = value_and_slope(
        function, guard_of("Exp", function, epsilon=1e-300), np.float32([1000])
    )
    assert np.isfinite(np.float32(1000) * np.float32(value[0]))


def two_lines(x):
    """Return sqrt(x) + log(x) on one line, sqrt(x) on the next."""
    first = ops.sqrt(x) + ops.log(x)
    return first, ops.sqrt(x)


def test_other_operations_and_other_lines_are_untouched():
    zero = tf.zeros((1,))

    @tf.function(autograph=False)
    def traced(guard_line):
        with guarded(guard_of("Sqrt", two_lines, guard_line)):
            return two_lines(zero)

    first, second = traced(2)
    assert np.isneginf(first) and not np.any(second)  # the logarithm on the guarded line is not
    first, second = traced(3)
    np.testing.assert_allclose(second, 0.01)
    assert np.isneginf(first)


def of_both_views(a, b):
    a = a / tf.norm(a, axis=1, keepdims=True)
    b = b / tf.norm(b, axis=1, keepdims=True)
    return a, b, b / tf.reduce_sum(b)


def test_a_line_that_computes_the_same_of_another_variable_is_guarded_alike():
    code = f"{__name__}.of_both_views: a = a / tf.norm(a, axis=1, keepdims=True)"
    guard = Guard("RealDiv", line_of(of_both_views, 1), None, 0.0, code)

    @tf.function(autograph=False)
    def traced(a, b):
        with guarded(guard):
            return of_both_views(a, b)

    first, second, other = traced(tf.zeros((2, 3)), tf.zeros((2, 3)))
    assert not np.any(first) and not np.any(second) and np.isnan(other).all()


def test_two_guards_at_once():
    @tf.function(autograph=False)
    def traced(x):
        with guarded(guard_of("Sqrt", two_lines, 2)), guarded(guard_of("Log", two_lines, 2)):
            return two_lines(x)

    first, second = traced(tf.zeros((1,)))
    np.testing.assert_allclose(first, 0.01 + np.log(E), rtol=1e-5)
    assert not np.any(second)


def test_operations_in_loops_and_branches_are_guarded():
    def looped(x):
        return tf.while_loop(
            lambda i, a: i < 3,
            lambda i, a: (i + 1, a + tf.sqrt(x)),
            [0, tf.zeros_like(x)],
            maximum_iterations=3,
        )[1]

    value, slope = value_and_slope(looped, guard_of("Sqrt", looped, 3), np.float32([0, 4]))
    np.testing.assert_allclose(value, [0.03, 6.0])
    np.testing.assert_allclose(slope, [0.0, 0.75])

    def branched(x):
        return tf.cond(x[1] > 0.0, lambda: tf.sqrt(x), lambda: x)

    value, slope = value_and_slope(branched, guard_of("Sqrt", branched, 1), np.float32([0, 4]))
    np.testing.assert_allclose(value, [0.01, 2.0])
    np.testing.assert_allclose(slope, [0.0, 0.25])


def test_a_complex_number_is_kept_away_from_0_and_divides_to_0():
    z = tf.constant([0j, 3 + 4j], "complex64")
    for name in ("RealDiv", "Log"):
        unsafe = UNSAFE_OPERATIONS[name]
        (held,) = kept(unsafe, [z, z], E, lambda _: False).values()
        np.testing.assert_allclose(held, [E, 3 + 4j])
    (held,) = kept(UNSAFE_OPERATIONS["RealDiv"], [z, z], 0.0, lambda _: False).values()
    np.testing.assert_allclose(z / held, [0, 1], atol=1e-9)
    assert kept(UNSAFE_OPERATIONS["Exp"], [z], E, lambda _: False) == {}
