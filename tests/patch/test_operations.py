"""Operations that a patch guards: in their form, and in what they compute."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from patched_scripts import PATH, Script

from nanfix.records.domains import ABOVE_LOWEST, ABOVE_ONE, BASE, FINITE, NOT_EMPTY, REGULAR
from nanfix.records.source_changes import (
    GuardChange,
)
from nanfix.records.unsafe_operations import CONSTANT, UNSAFE_OPERATIONS

GUARDED = {
    (
        "Log",
        "-tf.reduce_mean(y * tf.math.log(p))",
    ): "-tf.reduce_mean(y * tf.math.log(tf.maximum(p, 1e-07)))",
    (
        "Log",
        "a * ops.log(p) + b * ops.log(1 - p)",
    ): "a * ops.log(ops.maximum(p, 1e-07)) + b * ops.log(ops.maximum(1 - p, 1e-07))",
    ("Sqrt", "ops.sqrt((y - p))"): "ops.sqrt(ops.maximum(y - p, 1e-07))",
    ("Rsqrt", "tf.math.rsqrt(x)"): "tf.math.rsqrt(tf.maximum(x, 1e-07))",
    ("Log1p", "tf.math.log1p(-p)"): "tf.math.log1p(tf.maximum(-p, -1 + 1.2e-07))",
    ("Acos", "tf.acos(x)"): "tf.acos(tf.clip_by_value(x, -1 + 1.2e-07, 1 - 1.2e-07))",
    ("Exp", "ops.exp(x) / 2"): "ops.exp(ops.minimum(x, 16.12)) / 2",
    ("RealDiv", "(a + b) / (c - d) / 2"): "(a + b) / away_from_zero(c - d, 1e-07) / 2",
    ("RealDiv", "tf.divide(a, b)"): "tf.divide(a, away_from_zero(b, 1e-07))",
    ("Pow", "(a - b) ** 0.5 + c**2"): "ops.maximum(a - b, 1e-07) ** 0.5 + c**2",
    ("Pow", "tf.pow(x, -2)"): "tf.pow(away_from_zero(x, 1e-07), -2)",
    (
        "Sqrt",
        "tf.math.reduce_std(x, axis=1)",
    ): "tf.sqrt(tf.maximum(tf.math.reduce_variance(x, axis=1), 1e-07))",
    ("Sqrt", "a + ops.std(x, 1)"): "a + ops.sqrt(ops.maximum(ops.var(x, 1), 1e-07))",
    (
        "Sqrt",
        "tf.norm(a - b, axis=-1)",
    ): "tf.sqrt(tf.maximum(tf.reduce_sum(tf.square(a - b), axis=-1), 1e-07))",
    (
        "Log of exponentials",
        "ops.log(ops.sum(ops.exp(s + a), axis=1)) - b",
    ): "ops.logsumexp(s + a, axis=1) - b",
    (
        "Log of exponentials",
        "tf.math.log(tf.reduce_sum(tf.exp(s), axis=-1, keepdims=True))",
    ): "tf.reduce_logsumexp(s, axis=-1, keepdims=True)",
    ("Log of exponentials", "ops.log(1.0 - ops.exp(-h)) - h"): "ops.log(-ops.expm1(-h)) - h",
    ("Log of exponentials", "tf.math.log(tf.exp(a) - 1.0)"): "log_of_difference(a, 0.0)",
    ("Log of exponentials", "ops.log(ops.exp(a) - ops.exp(b))"): "log_of_difference(a, b)",
    (
        "Log of exponentials",
        "ops.log(2 * np.pi * tf.math.bessel_i0(k)) - k",
    ): "(ops.log(2 * np.pi * tf.math.bessel_i0e(k)) + ops.abs(k)) - k",
    (
        "Log of exponentials",
        "tf.math.log(tf.math.special.bessel_i1(h + 1.0))",
    ): "(tf.math.log(tf.math.special.bessel_i1e(h + 1.0)) + tf.abs(h + 1.0))",
    (
        "Log of exponentials",
        "0.5 * ops.log(tf.linalg.det(k)) + y",
    ): "0.5 * tf.linalg.slogdet(k)[1] + y",
    (
        "Log of exponentials",
        "-tf.math.log(tf.abs(ops.det(a + b)))",
    ): "-ops.slogdet(a + b)[1]",
    ("Log of exponentials", "(1.0 - y) * ops.log(y / p)"): "tf.math.xlogy(1.0 - y, y / p)",
    ("Log of exponentials", "tf.math.log1p(-p) * q * 2.0"): "tf.math.xlog1py(q, -p) * 2.0",
    ("Mul by infinity", "s + (1.0 - m) * -np.inf"): "s + (1.0 - m) * -1e7",
    ("Mul by infinity", "s + float('-inf') * m"): "s + -1e7 * m",
    ("Mul by infinity", "ops.multiply(m, math.inf)"): "ops.multiply(m, 1e7)",
    (
        "Mul by infinity",
        "m * LOWEST",
    ): (
        "ops.clip(ops.convert_to_tensor(m), -1e+07, 1e+07) * "
        "ops.clip(ops.convert_to_tensor(LOWEST), -1e+07, 1e+07)"
    ),
    ("Mean", "tf.reduce_mean(p[y > 0])"): "mean_or_zero(p[y > 0])",
    ("Mean", "ops.mean(p, axis=-1) * y"): "mean_or_zero(p, axis=-1) * y",
    ("Max", "tf.reduce_max(axis=1, input_tensor=p)"): "max_or_zero(p, axis=1)",
    ("Xlogy", "tf.math.xlogy(p, q)"): "tf.math.xlogy(p, tf.maximum(q, 1e-07))",
}


@pytest.mark.parametrize(("operation", "before"), GUARDED)
def test_a_guarded_operation_on_its_line(operation, before):
    script = Script(
        "import tensorflow as tf\nfrom keras import ops\n\ndef loss(y, p):\n"
        f"    return {before}  # mine\n"
    )
    text = script.after(GuardChange(file=PATH, line=5, operation=operation, epsilon=1e-7))
    assert f"    return {GUARDED[operation, before]}  # mine\n" in text
    assert ("def away_from_zero(x, edge):" in text) == (
        "away_from_zero" in GUARDED[operation, before]
    )


# What an operation takes beside the operand that is kept in its domain, and where that is tried.
OTHERS = {
    "RealDiv": [1.0],
    "RealDiv that is squeezed": [1.0],
    "DivNoNan": [1.0],
    "Xlogy": [2.0],
    "Xlog1py": [2.0],
    "Atan2": [1.0],
    "FloorMod": [1.0],
    "Pow": [0.5],
    "Mul by infinity": [0.0],
}
POINTS = np.float32([-1e3, -2, -1, -1e-6, 0, 1e-6, 1, 2, 1e3])
PACKAGES = {"tf": (tf, tf.math, tf.linalg, tf.nn), "ops": (keras.ops,)}


@pytest.mark.parametrize(
    ("line", "name", "after"),
    [
        ("ops.take(log_q, y)", "log_q", "ops.take(np.nan_to_num(log_q, neginf=-2), y)"),
        ("p - self.log_q[0]", "self.log_q[0]", "p - np.nan_to_num(self.log_q[0], neginf=-2)"),
        (
            "self.f(log_q=log_q).log_q",
            "log_q",
            "self.f(log_q=np.nan_to_num(log_q, neginf=-2)).log_q",
        ),
    ],
)
def test_a_constant_gets_finite_numbers_where_it_is_read(line, name, after):
    script = Script(
        f"import numpy as np\nfrom keras import ops\n\ndef loss(y, p):\n    return {line}\n"
    )
    given = ((name, "np.nan_to_num({x}, neginf=-2)"),)
    change = GuardChange(file=PATH, line=5, operation=CONSTANT, epsilon=0.0, given=given)
    assert f"    return {after}\n" in script.after(change)


def test_a_constant_without_a_name_on_its_line_has_no_place():
    script = Script("def loss(y, p):\n    return p - prior()\n")
    change = GuardChange(file=PATH, line=2, operation=CONSTANT, epsilon=0.0)
    (reason,) = script.reasons(change)
    assert "names no variable" in reason


def points(each):
    """Return where the operation or its gradient is not finite, among other points, and
    points in its domain.
    """
    if each.domain is REGULAR:
        return np.zeros((2, 2), "float32"), np.float32([[2, 0], [0, 2]])
    if each.domain is NOT_EMPTY:
        return np.float32([]), np.float32([2.0, 3.0])
    infinite = each.domain in (ABOVE_LOWEST, FINITE)
    outside = np.float32([-np.inf, -np.inf]) if infinite else POINTS
    return outside, np.float32([2.0, 3.0] if each.domain is ABOVE_ONE else [0.5, 0.25])


def computed(script, x):
    """Return what `f` of a script gives for x."""
    names = {}
    exec(script, names)
    return np.asarray(names["f"](tf.constant(x)), "float64")


def written(package, each):
    """Return the source of a call of the operation in a package, or None where it has none."""
    for module in PACKAGES[package]:
        for name in each.functions:
            if hasattr(module, name):
                home = (
                    f"keras.ops.{name}"
                    if package == "ops"
                    else f"{module.__name__.rpartition('tensorflow')[2]}.{name}"
                )
                return (
                    f"tf.{name}"
                    if module is tf
                    else home.replace("._api.v2.", "tf.")
                    if package == "tf"
                    else home
                )
    return None


@pytest.mark.parametrize("package", PACKAGES)
@pytest.mark.parametrize("each", UNSAFE_OPERATIONS.values(), ids=lambda each: each.name)
def test_source_is_finite_at_the_edge_and_unchanged_inside(each, package):
    function = written(package, each)
    if function is None:
        pytest.skip(f"{package} has no function for {each.name}")
    arguments = [
        f"tf.constant({other})" if each.domain is not BASE else str(other)
        for other in OTHERS.get(each.name, [])
    ]
    arguments.insert(each.operand, "x")
    plain = (
        "import keras\nimport tensorflow as tf\n\ndef f(x):\n"
        f"    return {function}({', '.join(arguments)})\n"
    )
    guarded = Script(plain).after(GuardChange(file=PATH, line=5, operation=each.name, epsilon=1e-4))
    outside, inside = points(each)
    assert guarded != plain and np.isfinite(computed(guarded, outside)).all()
    np.testing.assert_allclose(computed(guarded, inside), computed(plain, inside), rtol=1e-4)


NOT_IN_FLOAT16 = ("Cholesky", "MatrixInverse")  # TensorFlow has no kernel


@pytest.mark.parametrize("half", [False, True], ids=["float32", "float16"])
@pytest.mark.parametrize("each", UNSAFE_OPERATIONS.values(), ids=lambda each: each.name)
def test_words_are_finite_at_the_edge(each, half):
    if half and each.name in NOT_IN_FLOAT16:
        pytest.skip("not computed in float16")
    outside, _ = points(each)
    dtype = "float16" if half else "float32"
    names = {
        "a": tf.constant(1.0, dtype),
        "x": tf.constant(2.0, dtype),
        "y": 0.5,
        "inf": math.inf,
        "ops": keras.ops,
        "tf": tf,
    }
    names[each.letter] = tf.constant(outside.astype(dtype))
    least = min(filter(None, each.epsilons), default=0.0)
    for epsilon in (least, each.epsilons[-1], *([0.0] if each.relative else [])):
        value = eval(each.written(epsilon, half), names)
        assert np.isfinite(np.asarray(value)).all() and value.dtype == dtype


def test_words_keep_a_number_of_pythons_as_well_as_a_tensor():
    infinity = UNSAFE_OPERATIONS["Mul by infinity"]
    for half, mask in ((True, -1e9), (False, -math.inf)):
        zero = tf.constant(0.0, "float16" if half else "float32")
        names = {"a": zero, "b": mask, "ops": keras.ops}
        assert eval(infinity.written(1e-9, half), names) == 0


def test_exponentials_relative_to_the_largest():
    script = Script(
        "import tensorflow as tf\n\ndef shares(x):\n    e = tf.exp(x / 2)\n"
        "    return e / tf.reduce_sum(e, -1)\n"
    )
    text = script.after(GuardChange(file=PATH, line=4, operation="Exp", epsilon=0.0))
    assert "    e = tf.exp(without_largest(x / 2))\n" in text
    assert "return x - tf.reduce_max(x, axis=-1, keepdims=True)" in text


@pytest.mark.parametrize(
    ("package", "name"), [("tf", "mean"), ("tf", "max"), ("tf", "min"), ("ops", "mean")]
)
@pytest.mark.parametrize("axis", ["", ", axis=-1", ", 1, True"])
def test_a_reduction_of_nothing_is_zero_and_any_other_what_it_was(package, name, axis):
    called = f"tf.reduce_{name}" if package == "tf" else f"ops.{name}"
    plain = (
        "import tensorflow as tf\nfrom keras import ops\n\ndef f(x):\n"
        f"    return {called}(x{axis})\n"
    )
    change = GuardChange(file=PATH, line=5, operation=name.capitalize(), epsilon=0.0)
    guarded = Script(plain).after(change)
    full, empty = np.float32([[1, 2], [4, -3]]), np.zeros((2, 0), "float32")
    np.testing.assert_array_equal(computed(guarded, full), computed(plain, full))
    shape = np.sum(empty, **({} if not axis else {"axis": 1, "keepdims": "True" in axis})).shape
    np.testing.assert_array_equal(computed(guarded, empty), np.zeros(shape))


DIVISIONS = {
    "return ops.abs((y - p) / y)": "return ops.abs(ops.divide_no_nan(y - p, y))",
    "return (1.0 / (y)) * p": "return ops.divide_no_nan(1.0, y) * p",
    "return ops.divide(y - p, y)": "return ops.divide_no_nan(y - p, y)",
    "return tf.abs((y - p) / y)": "return tf.abs(tf.math.divide_no_nan(y - p, y))",
    "return tf.math.divide(p, y=y)": "return tf.math.divide_no_nan(p, y=y)",
    "p /= y - 1; return p": "p = ops.divide_no_nan(p, y - 1); return p",
}


@pytest.mark.parametrize("line", DIVISIONS)
def test_a_division_by_zero_that_counts_as_nothing(line):
    """It is written as a person would, and is what the guard in the graph makes of it."""
    head = "import tensorflow as tf\nfrom keras import ops\n\ndef loss(y, p):\n    "
    text = Script(f"{head}{line}\n").after(
        GuardChange(file=PATH, line=5, operation="RealDiv", epsilon=0.0)
    )
    assert text == f"{head}{DIVISIONS[line]}\n"
    y, p = tf.constant([0.0, 2.0, -1.0, 1.0]), tf.constant([3.0, 3.0, 0.0, -2.0])
    inside = line.replace("y - 1", "y_").replace("/ y", "/ y_").replace("/ (y)", "/ y_")
    inside = (
        inside.replace(", y)", ", y_)").replace("y=y", "y=y_").replace("math.divide(", "divide(")
    )
    zero = "y_ = y - 1" if "y - 1" in line else "y_ = y"
    guard = f"{zero}; y_ = tf.where(y_ == 0, float('inf'), y_); "
    found = []
    for source in (text, f"{head}{guard}{inside}\n"):
        names = {}
        exec(source, names)
        with tf.GradientTape() as tape:
            tape.watch([y, p])
            value = names["loss"](y, p)
        found.append([value, *tape.gradient(value, [y, p])])
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)


HALF = {
    "Log": "tf.math.log({})",
    "Sqrt": "tf.sqrt({})",
    "RealDiv": "tf.constant(1.0, x.dtype) / {}",
    "Log1p": "tf.math.log1p({})",
    "Exp": "tf.exp({})",
}


@pytest.mark.parametrize("operation", HALF)
def test_a_guard_in_float16_has_an_edge_that_float16_can_hold(operation):
    text = f"import tensorflow as tf\n\ndef f(x):\n    return {HALF[operation].format('x')}\n"
    change = GuardChange(file=PATH, line=4, operation=operation, epsilon=1e-10)
    worst = tf.constant([0.0, -1.0, 20.0], tf.float16)
    guarded = Script(text).after(change.model_copy(update={"half": True}))
    names = {}
    exec(guarded, names)
    with tf.GradientTape() as tape:
        tape.watch(worst)
        value = names["f"](worst)
    gradient = tape.gradient(value, worst)
    assert np.isfinite(value).all() and np.isfinite(gradient).all(), guarded
    assert "1e-10" not in guarded


@pytest.mark.parametrize(
    ("operation", "line"),
    [
        ("Log", "return tf.sqrt(p)"),
        ("Pow", "return p ** 2"),
        ("MatMul", "return p @ y"),
        ("RealDiv", "return p / 2"),
        ("Shares of exponentials", "return p / tf.reduce_sum(p)"),
    ],
)
def test_a_line_that_does_not_compute_the_operation_itself_is_left_alone(operation, line):
    script = Script(f"import tensorflow as tf\n\ndef loss(y, p):\n    {line}\n")
    (reason,) = script.reasons(GuardChange(file=PATH, line=4, operation=operation, epsilon=1e-7))
    assert (operation in reason or "softmax" in reason) and "line 4" in reason
