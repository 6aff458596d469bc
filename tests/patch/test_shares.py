"""Shares of exponentials as a patch writes them: the form, and the same numbers."""

import keras
import numpy as np
import pytest
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
    "r = ops.exp(a) / (ops.sum(ops.exp(a), axis=-1, keepdims=True) + 1e-7)": (
        "r = ops.softmax(a, axis=-1)"
    ),
    "e = tf.exp(a)\n    s = tf.reduce_sum(e, 1, True)\n    r = e / tf.maximum(s, 1e-9)": (
        "e = tf.exp(a)\n    s = tf.reduce_sum(e, 1, True)\n    r = tf.nn.softmax(a, axis=1)"
    ),
    "s = ops.sum(ops.exp(a), -1, True) + config.epsilon()\n    r = ops.exp(a) / s": (
        "s = ops.sum(ops.exp(a), -1, True) + config.epsilon()\n    r = ops.softmax(a, axis=-1)"
    ),
    "r = 1.0 / (1.0 + ops.exp(-a))": "r = ops.sigmoid(a)",
    "r = 3 / (1 + tf.exp(-2.0 * a)) - 1.0": "r = 3 * tf.math.sigmoid(2.0 * a) - 1.0",
    "r = (a + x) / (ops.exp(a) + 1.0)": "r = (a + x) * ops.sigmoid(-a)",
    "r = 2 ** (x / (1 + ops.exp(-(a + x))))": "r = 2 ** (x * ops.sigmoid(a + x))",
    "e = ops.exp(a)\n    r = e / (1 + e)": "e = ops.exp(a)\n    r = ops.sigmoid(a)",
    "e = tf.exp(a)\n    r = x * e / (1.0 + e)": "e = tf.exp(a)\n    r = x * tf.math.sigmoid(a)",
    "e, f = a, x\n    r = ops.exp(e) / (ops.exp(e) + ops.exp(f - 1))": (
        "e, f = a, x\n    r = ops.sigmoid(e - (f - 1))"
    ),
    "r = (ops.exp(a) - ops.exp(-a)) / (ops.exp(a) + ops.exp(-a))": "r = ops.tanh(a)",
    "p, n = 2 * a, 1\n    e = tf.exp(2 * a)\n    r = (e - 1) / (e + 1)": (
        "p, n = 2 * a, 1\n    e = tf.exp(2 * a)\n    r = tf.math.tanh(a)"
    ),
    "r = (1 - ops.exp(-a)) / (1 + ops.exp(-a))": "r = ops.tanh(a / 2)",
    "r = x + 1.0\n    r /= 1.0 + ops.exp(-a)": "r = x + 1.0\n    r = r * ops.sigmoid(a)",
}
# What still overflows where the quotient does.
PRODUCTS = {
    "r = x / ops.exp(a)": "r = x * ops.exp(-a)",
    "v = tf.exp(2 * a)\n    r = 0.5 * tf.square(x) / v": (
        "v = tf.exp(2 * a)\n    r = (0.5 * tf.square(x)) * tf.exp(-(2 * a))"
    ),
    "r = tf.exp(x) / tf.exp(a)": "r = tf.exp(x - a)",
}
HEAD = "import tensorflow as tf\nfrom keras import config, ops\n\ndef shares(a, x):\n    "


def patched(script):
    lines = script.text.splitlines()
    line = 1 + next(number for number, text in enumerate(lines) if "/" in text)
    return GuardChange(file=PATH, line=line, operation=SHARES_OF_EXPONENTIALS, epsilon=1e-7)


@pytest.mark.parametrize("before", [*WRITTEN, *PRODUCTS])
def test_quotients_of_exponentials_are_written_without_them(before):
    script = Script(f"{HEAD}{before}\n    return r\n")
    after = script.after(patched(script))
    assert f"    {(WRITTEN | PRODUCTS)[before]}\n" in after
    rng = np.random.default_rng(0)
    a, x = (rng.normal(size=(4, 4)).astype("float32") for _ in range(2))
    old, new = {}, {"keras": keras}
    exec(script.text, old)
    exec(after, new)
    np.testing.assert_allclose(new["shares"](a, x), old["shares"](a, x), rtol=1e-5)
    assert before in PRODUCTS or np.isfinite(new["shares"](a + 200 * np.sign(a), x)).all()


@pytest.mark.parametrize(
    "line",
    [
        "r = ops.exp(a) / ops.sum(ops.exp(x), axis=-1, keepdims=True)",
        "r = ops.exp(a) / ops.sum(ops.exp(a), axis=-1)",
        "r = ops.exp(a) / (ops.sum(ops.exp(a), axis=-1, keepdims=True) + 0.5)",
        "r = x * ops.exp(a) / (1.0 + ops.exp(x))",
        "r = ops.exp(a) / (2.0 + ops.exp(a))",
        "r = (ops.exp(a) - ops.exp(x)) / (ops.exp(a) + ops.exp(-a))",
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
