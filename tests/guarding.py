"""Guards of the operations on a line of a test."""

from contextlib import ExitStack
from pathlib import Path

import explosions
import numpy as np
import tensorflow as tf

import nanfix
from nanfix import Budget
from nanfix.changes.graph_guard import guarded
from nanfix.changes.guards import Guard

E = 1e-4


def line_of(function, offset=0):
    """Return "file.py:LINE" of the line `offset` below the head of a function."""
    code = function.__code__
    return f"{Path(code.co_filename).name}:{code.co_firstlineno + offset}"


def guard_of(operation, function, offset=0, epsilon=E):
    return Guard(operation, line_of(function, offset), None, epsilon)


def value_and_slope(function, guard, x, **compiled):
    """Return f(x) and df/dx, traced with the guard, if one is given."""

    @tf.function(autograph=False, **compiled)
    def both(x):
        with ExitStack() as guards, tf.GradientTape() as tape:
            if guard is not None:
                guards.enter_context(guarded(guard))
            tape.watch(x)
            y = function(x)
        return y, tape.gradient(y, x)

    return [np.asarray(tensor, "float64") for tensor in both(tf.constant(x))]


def with_guards_alone(model, x, y, **arguments):
    """Repair a training by guards or not at all."""
    return nanfix.fit(
        model,
        x,
        y,
        strategies=["guard-unsafe-operations"],
        budget=Budget(trials=3),
        throw=False,
        **{**explosions.ARGUMENTS, **arguments},
    )


def check_against_float64(function, guard, points, jit_compile, rtol):
    """Value and slope of the guarded form in float32 are those of the plain form in float64."""
    expected = value_and_slope(function, None, np.float64(points))
    found = value_and_slope(function, guard, np.float32(points), jit_compile=jit_compile)
    for seen, right in zip(found, expected, strict=True):
        np.testing.assert_allclose(seen, right, rtol=rtol, atol=1e-5)
