"""Shares of exponentials as a patch writes them: the form, and the same numbers."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops
from patched_scripts import PATH, Script

from nanfix.records.source_changes import GuardChange
from nanfix.records.unsafe_operations import SHARES_OF_EXPONENTIALS

WRITTEN = {
    "r = ops.exp(a) / ops.sum(ops.exp(a), axis=-1, keepdims=True)": ("r = ops.softmax(a, axis=-1)"),
    "e = ops.exp(2 * a)\n    r = e / ops.sum(e, axis=1, keepdims=True)": (
        "e = ops.exp(2 * a)\n    r = ops.softmax(2 * a, axis=1)"
    ),
    "e = tf.exp(a)\n    s = tf.reduce_sum(e, -1, True)\n    r = e / s + 1.0": (
        "e = tf.exp(a)\n    s = tf.reduce_sum(e, -1, True)\n    r = tf.nn.softmax(a, axis=-1) + 1.0"
    ),
    "e = tf.exp(a)\n    r = (e @ x) / tf.reduce_sum(e, axis=1, keepdims=True)": (
        "e = tf.exp(a)\n    r = (tf.nn.softmax(a, axis=1) @ x)"
    ),
    "k = ops.exp(-a)\n    r = ops.matmul(k, x) / ops.sum(k, axis=-1, keepdims=True)": (
        "k = ops.exp(-a)\n    r = ops.matmul(ops.softmax(-a, axis=-1), x)"
    ),
    "w = ops.exp(a)\n    r = ops.sum(w * x, axis=0) / ops.sum(w, axis=0)": (
        "w = ops.exp(a)\n    r = ops.sum(ops.softmax(a, axis=0) * x, axis=0)"
    ),
    "w = ops.exp(a)\n    w = w / ops.sum(w, axis=-1, keepdims=True)\n    r = w @ x": (
        "w = ops.exp(a)\n    w = ops.softmax(a, axis=-1)\n    r = w @ x"
    ),
    "r = ops.exp(a - 1)\n    r /= ops.sum(r, axis=1, keepdims=True)": (
        "r = ops.exp(a - 1)\n    r = ops.softmax(a - 1, axis=1)"
    ),
    "w = ops.exp(a)\n    top = ops.sum(x * w, axis=1)\n    r = top / ops.sum(w, axis=1)": (
        "w = ops.exp(a)\n    top = ops.sum(x * w, axis=1)\n"
        "    r = ops.sum(x * ops.softmax(a, axis=1), axis=1)"
    ),
    "e = ops.exp(a)\n    r = e / ops.sum(e, axis=-1)[:, None]": (
        "e = ops.exp(a)\n    r = ops.softmax(a, axis=-1)"
    ),
    "m = ops.cast(x > 0, 'float32')\n    e = ops.exp(a) * m\n    r = e / ops.sum(e, 1, True)": (
        "m = ops.cast(x > 0, 'float32')\n    e = ops.exp(a) * m\n"
        "    r = (ops.softmax(ops.where(m > 0, a, -1e9), axis=1) * m)"
    ),
    "e = ops.exp(a)\n    e = e * ops.cast(x > 0, 'float32')\n"
    "    r = e / ops.sum(e, -1, keepdims=True)": (
        "e = ops.exp(a)\n    e = e * ops.cast(x > 0, 'float32')\n"
        "    r = (ops.softmax(ops.where(ops.cast(x > 0, 'float32') > 0, a, -1e9), axis=-1) * "
        "ops.cast(x > 0, 'float32'))"
    ),
    "m = tf.cast(x > 0, tf.float32)\n    e = tf.exp(a)\n    e *= m\n"
    "    e = e / tf.reduce_sum(e, 1, True)\n    r = e": (
        "m = tf.cast(x > 0, tf.float32)\n    e = tf.exp(a)\n    e *= m\n"
        "    e = (tf.nn.softmax(tf.where(m > 0, a, -1e9), axis=1) * m)\n    r = e"
    ),
    "e = tf.where(x > 0, tf.exp(2 * a), 0.0)\n    r = e / tf.reduce_sum(e, -1, keepdims=True)": (
        "e = tf.where(x > 0, tf.exp(2 * a), 0.0)\n    r = (tf.nn.softmax(tf.where(x > 0, (2 * a), "
        "-1e9), axis=-1) * tf.cast(x > 0, (2 * a).dtype))"
    ),
}
HEAD = "import tensorflow as tf\nfrom keras import ops\n\ndef shares(a, x):\n    "


def patched(script):
    lines = script.text.splitlines()
    line = 1 + next(number for number, text in enumerate(lines) if "/" in text)
    return GuardChange(file=PATH, line=line, operation=SHARES_OF_EXPONENTIALS, epsilon=1e-7)


@pytest.mark.parametrize("before", WRITTEN)
def test_shares_of_exponentials_are_a_softmax(before):
    script = Script(f"{HEAD}{before}\n    return r\n")
    after = script.after(patched(script))
    assert f"    {WRITTEN[before]}\n" in after
    rng = np.random.default_rng(0)
    a, x = (rng.normal(size=(4, 4)).astype("float32") for _ in range(2))
    old, new = {"tf": tf, "ops": ops}, {"tf": tf, "ops": ops, "keras": keras}
    exec(script.text, old)
    exec(after, new)
    np.testing.assert_allclose(new["shares"](a, x), old["shares"](a, x), rtol=1e-5)
    assert np.isfinite(new["shares"](a + 200 * np.sign(a), x)).all()


@pytest.mark.parametrize(
    "line",
    [
        "r = ops.exp(a) / ops.sum(ops.exp(x), axis=-1, keepdims=True)",
        "r = ops.exp(a) / ops.sum(ops.exp(a), axis=-1)",
        "r = ops.exp(a) / (ops.sum(ops.exp(a), axis=-1, keepdims=True) + 1e-9)",
        "e = ops.exp(a)\n    a = x\n    r = e / ops.sum(e, axis=-1, keepdims=True)",
        "e = ops.exp(a)\n    e = e + x\n    r = e / ops.sum(e, axis=-1, keepdims=True)",
        "a = ops.exp(a)\n    r = a / ops.sum(a, axis=-1, keepdims=True)",
        "e = x\n    if len(x) > 2:\n        e = ops.exp(a)\n"
        "    r = e / ops.sum(e, axis=-1, keepdims=True)",
        "e = ops.exp(a)\n    for _ in range(2):\n"
        "        r = e / ops.sum(e, axis=-1, keepdims=True)\n        e = e + r",
        "e = ops.exp(a)\n    r = ops.sum(e * x, axis=0) / ops.sum(e, axis=1)",
        "r = x / ops.sum(x, axis=-1, keepdims=True)",
        "e = ops.exp(a)\n    a = a + 1\n    e = e * x\n    r = e / ops.sum(e, -1, keepdims=True)",
        "e = ops.exp(a)\n    e = e * e\n    r = e / ops.sum(e, -1, keepdims=True)",
        "e = ops.exp(a)\n    e = e + x\n    r = e / ops.sum(e, -1, keepdims=True)",
        "e = ops.exp(a)\n    e += x\n    r = e / ops.sum(e, -1, keepdims=True)",
    ],
)
def test_what_may_be_something_else_is_left_alone(line):
    script = Script(f"{HEAD}{line}\n    return r\n")
    (reason,) = script.reasons(patched(script))
    assert "ops.softmax(a, axis=...)" in reason
