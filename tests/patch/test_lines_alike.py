"""Lines of one function that compute the same of other variables are patched together."""

from patched_scripts import PATH, Script

from nanfix.records.source_changes import GuardChange

VIEWS = """
import tensorflow as tf

def contrast(a, b, n):
    a = a / tf.norm(a, axis=1, keepdims=True)
    b = b / tf.norm(b, axis=1, keepdims=True)  # the other view
    return tf.reduce_sum(a * b) / n

def other(c):
    c = c / tf.norm(c, axis=1, keepdims=True)
    return c
"""


def test_a_line_alike_in_the_same_function_is_guarded_too():
    script = Script(VIEWS)
    line = script.line("a = a / tf.norm")
    change = GuardChange(file=PATH, line=line, operation="RealDiv", epsilon=0.0)
    after = script.after(change)
    assert "a = tf.math.divide_no_nan(a, tf.norm(a, axis=1, keepdims=True))\n" in after
    assert "b = tf.math.divide_no_nan(b, tf.norm(b, axis=1, keepdims=True))  # the" in after
    assert "tf.reduce_sum(a * b) / n\n" in after and "c = c / tf.norm(" in after


def test_a_root_inside_a_norm_is_guarded_in_both():
    script = Script(VIEWS)
    line = script.line("b = b / tf.norm")
    change = GuardChange(file=PATH, line=line, operation="Sqrt", epsilon=1e-7)
    assert script.after(change).count("tf.sqrt(tf.maximum(") == 2
