"""Differences that cancel as a patch writes them: the form, and the same numbers."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops
from patched_scripts import PATH, Script

from nanfix.records.source_changes import GuardChange
from nanfix.records.unsafe_operations import DIFFERENCES

WRITTEN = {
    "r = ops.mean(ops.square(a), axis=1) - ops.square(ops.mean(a, axis=1))": (
        "r = ops.var(a, axis=1)"
    ),
    "m = ops.mean(a, axis=-1, keepdims=True)\n"
    "    r = ops.sqrt(ops.mean(a**2, axis=-1, keepdims=True) - m**2)": (
        "m = ops.mean(a, axis=-1, keepdims=True)\n"
        "    r = ops.sqrt(ops.var(a, axis=-1, keepdims=True))"
    ),
    "s, m = tf.reduce_mean(a * a), tf.reduce_mean(a)\n    v = tf.reduce_mean(a * a)\n"
    "    r = v - tf.square(tf.reduce_mean(a))": (
        "s, m = tf.reduce_mean(a * a), tf.reduce_mean(a)\n    v = tf.reduce_mean(a * a)\n"
        "    r = tf.math.reduce_variance(a)"
    ),
    "r = a / (1.0 - ops.exp(-a))": "r = a / (-ops.expm1(-a))",
    "r = ops.log(tf.exp(a * a) - 1) + 1 - a": "r = ops.log(tf.math.expm1(a * a)) + 1 - a",
    "r = 3 * (1 - ops.cos(a + 1))": "r = 3 * (2 * ops.square(ops.sin((a + 1) / 2)))",
    "r = ops.cos(a) - 1": "r = -2 * ops.square(ops.sin((a) / 2))",
}
HEAD = "import tensorflow as tf\nfrom keras import ops\n\ndef spread(a):\n    "


def change(line=5):
    return GuardChange(file=PATH, line=line, operation=DIFFERENCES, epsilon=0.0)


@pytest.mark.parametrize("before", WRITTEN)
def test_differences_are_written_without_cancellation(before):
    script = Script(f"{HEAD}{before}\n    return r\n")
    after = script.after(change())
    assert f"    {WRITTEN[before]}\n" in after
    a = 1.0 + np.random.default_rng(0).random(size=(4, 4)).astype("float32")
    old, new = {"tf": tf, "ops": ops}, {"tf": tf, "ops": ops, "keras": keras}
    exec(script.text, old)
    exec(after, new)
    np.testing.assert_allclose(new["spread"](a), old["spread"](a), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "before",
    [
        "r = ops.mean(a**2) - ops.mean(a + 1)**2",
        "r = ops.mean(a**2, axis=1) - ops.mean(a, axis=0)**2",
        "r = 2 - ops.exp(a)",
        "m = ops.mean(a)\n    a = a + 1\n    r = ops.mean(a**2) - m**2",
    ],
)
def test_other_differences_have_no_place(before):
    script = Script(f"{HEAD}{before}\n    return r\n")
    (reason,) = script.reasons(change())
    assert "line 5" in reason and "ops.var(x, axis=...)" in reason
