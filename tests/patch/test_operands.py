"""The operands that a patch guards: as the graph was guarded in the run, wherever they stand."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from patched_scripts import PATH, Script

from nanfix.changes.graph_guard import guarded
from nanfix.changes.guards import Guard
from nanfix.explain.given import GivenOperands
from nanfix.model.operations import traced
from nanfix.records.source_changes import GuardChange

LINE = 5
ANY = np.float32([-3.0, -1e-12, 0.0, 1e-12, 0.25, 3.0])
FINITE = np.float32([0.0, 1.0, 2.5, 0.0, -1.0, 4.0])
INFINITE = np.float32([np.inf, np.inf, -np.inf, 2.0, np.inf, 0.0])
TWO = (
    ("Mul by infinity", "a * b"),
    ("Mul by infinity", "ops.multiply(a, b)"),
    ("Mul by infinity", "ops.multiply(x2=a, x1=b)"),
    ("Mul by infinity", "tf.multiply(a, y=b)"),
    ("Mul by infinity", "a * ops.abs(b)"),
    ("Mul by infinity", "tf.reduce_sum((1.0 - a) * 2.0 * b)"),
)
THREE = (
    ("Mul by infinity", "a * b * c"),
    ("Mul by infinity", "c * (a * b)"),
    ("Mul by infinity", "-(a * b) * c"),
    ("Mul by infinity", "a * b + c * b"),
    ("Mul by infinity", "tf.multiply(tf.multiply(a, b), c)"),
    ("Mul by infinity", "tf.reduce_sum(a * b * c, axis=-1)"),
)
BY_DOMAIN = (
    ("RealDiv", "b / a"),
    ("RealDiv", "c / a / b"),
    ("RealDiv", "tf.divide(b, a)"),
    ("RealDiv", "ops.divide(x2=a, x1=b)"),
    ("RealDiv", "ops.divide(b, x2=ops.square(a))"),
    ("DivNoNan", "tf.math.divide_no_nan(b, a)"),
    ("DivNoNan", "tf.math.divide_no_nan(y=a, x=b)"),
    ("Xlogy", "tf.math.xlogy(b, a)"),
    ("Xlogy", "tf.math.xlogy(y=a, x=b)"),
    ("Xlog1py", "tf.math.xlog1py(b, y=a - 1)"),
    ("Atan2", "tf.math.atan2(b, a)"),
    ("Atan2", "tf.math.atan2(x=a, y=b)"),
    ("Atan2", "ops.arctan2(x2=a, x1=b)"),
    ("FloorMod", "b % a"),
    ("FloorMod", "tf.math.floormod(b, y=a)"),
    ("Sqrt", "tf.sqrt(x=a)"),
    ("LogSoftmax", "tf.nn.log_softmax(axis=-1, logits=a)"),
)
POWERS = (
    "a ** b",
    "a ** (1.0 / b)",
    "ops.power(a, b)",
    "ops.power(x2=-b, x1=a)",
    "tf.pow(a, 1.0 / b)",
    "tf.pow(y=b, x=a)",
    "(a ** 2) ** b",
    "ops.power(ops.mean(a ** 3.0, keepdims=True), 1.0 / b)",
)
EXPONENTS = {
    "fraction": np.float32([3.0 / 7] * 6),
    "above one": np.float32([3.0] * 6),
    "one": np.float32([1.0] * 6),
    "below one": np.float32([-2.0] * 6),
    "mixed": np.float32([0.5, 2.0, -1.0, -0.5, 3.0, 0.5]),
}


def module(text):
    names = {"__name__": "train"}
    exec(compile(text, str(Path(PATH).absolute()), "exec"), names)
    return names["f"]


def check(operation, body, epsilon, *values):
    """Return the lines of the patched script, which gives what the guarded graph gives."""
    arguments = "abc"[: len(values)]
    script = Script(
        "import tensorflow as tf\nfrom keras import ops\n\n"
        f"def f({', '.join(arguments)}):\n    {body}\n    return {arguments[0]}\n"
    )
    given, tensors, function = (
        GivenOperands(None),
        [tf.constant(v) for v in values],
        module(script.text),
    )
    with traced(given.visit):
        function(*tensors)
    source = f"{PATH}:{LINE}"
    facts = given.of(source, operation)
    with guarded(Guard(operation, source, None, epsilon)):
        expected = tf.function(function, autograph=False)(*tensors)
    patch = script.patch(
        GuardChange(file=PATH, line=LINE, operation=operation, epsilon=epsilon, given=facts)
    )
    text = patch.after[PATH].decode() if patch.after else script.text
    np.testing.assert_array_equal(module(text)(*tensors), expected, text)
    assert np.isfinite(expected).all()
    return text.splitlines()


def written(expression):
    return f"return {expression}"


@pytest.mark.parametrize(("operation", "expression"), [*TWO, *THREE])
def test_infinite_factors_are_guarded_wherever_they_stand(operation, expression):
    count = 3 if (operation, expression) in THREE else 2
    for infinite in itertools.product((False, True), repeat=count):
        if any(infinite):
            values = [
                np.roll(INFINITE, n) if each else np.roll(FINITE, n)
                for n, each in enumerate(infinite)
            ]
            lines = check(operation, written(expression), 1e-9, *values)
            kept = next(line for line in lines if "return" in line)
            for name, each in zip("abc", infinite, strict=False):
                assert each or f"({name}, -1e" not in kept, kept


@pytest.mark.parametrize(("operation", "expression"), BY_DOMAIN)
def test_the_operand_with_a_domain_is_guarded_wherever_it_stands(operation, expression):
    epsilon = 1e-30 if operation == "LogSoftmax" else 1e-7
    others = FINITE + 1, FINITE + 2
    check(operation, written(expression), epsilon, ANY, *others)


@pytest.mark.parametrize(
    ("expression", "exponent"),
    [
        pytest.param(expression, exponent, id=f"{expression}, {name}")
        for expression, (name, exponent) in itertools.product(POWERS, EXPONENTS.items())
        if (expression, name) != (POWERS[-1], "mixed")  # one base, kept for all in the graph
    ],
)
def test_a_base_is_guarded_as_its_exponent_was(expression, exponent):
    check("Pow", written(expression), 1e-4, ANY, exponent)


def test_an_exponent_that_was_of_several_kinds_decides_where_it_is_used():
    script = Script("import tensorflow as tf\n\ndef f(a, b):\n    return tf.pow(a, b)\n")
    given = (("b", "a fraction"), ("b", "a whole number"))
    text = script.after(GuardChange(file=PATH, line=4, operation="Pow", epsilon=1e-4, given=given))
    assert "return tf.pow(base_for(a, b, 0.0001), b)" in text
    powers = module(text)(tf.constant([-3.0, -3.0]), tf.constant([2.0, 0.5]))
    np.testing.assert_allclose(powers, [9.0, 0.01], rtol=1e-5)


@pytest.mark.parametrize(
    ("operation", "statement", "values", "after"),
    [
        (
            "Mul by infinity",
            "a *= b",
            (INFINITE, FINITE),
            "a = tf.clip_by_value(a, -1e+09, 1e+09) * b",
        ),
        (
            "Mul by infinity",
            "a *= 1 + b",
            (INFINITE, FINITE),
            "a = tf.clip_by_value(a, -1e+09, 1e+09) * (1 + b)",
        ),
        (
            "Mul by infinity",
            "a *= b",
            (FINITE, INFINITE),
            "a *= tf.clip_by_value(b, -1e+09, 1e+09)",
        ),
        (
            "Mul by infinity",
            "a *= b * c",
            (FINITE, FINITE, INFINITE),
            "a *= b * tf.clip_by_value(c, -1e+09, 1e+09)",
        ),
        (
            "Mul by infinity",
            "a *= b * c",
            (INFINITE, FINITE, INFINITE),
            "a = tf.clip_by_value(a, -1e+09, 1e+09) * (b * tf.clip_by_value(c, -1e+09, 1e+09))",
        ),
        ("RealDiv", "a /= b", (FINITE, ANY), "a /= away_from_zero(b, 1e-09)"),
        ("FloorMod", "a %= b", (FINITE, ANY), "a %= away_from_zero(b, 1e-09)"),
        ("Pow", "a **= 0.5", (ANY,), "a = tf.maximum(a, 1e-09) ** 0.5"),
        ("Pow", "a **= b", (ANY, EXPONENTS["fraction"]), "a = tf.maximum(a, 1e-09) ** b"),
    ],
)
def test_an_assignment_that_computes(operation, statement, values, after):
    """Its own variable is guarded in a statement that is written out."""
    lines = check(operation, f"{statement}; tf.abs(a)", 1e-9, *values)
    assert f"    {after}; tf.abs(a)" in lines
