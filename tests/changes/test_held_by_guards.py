"""Which numbers that a guard holds are weights."""

import keras
import pytest
import tensorflow as tf

from nanfix.changes.guards import Guard
from nanfix.changes.held_by_guards import shares_held, watched

GENERATOR = keras.random.SeedGenerator(0)
COMPUTED = {
    "a weight": (lambda weight: weight * 2.0 - 1.0, True),
    "drawn by TensorFlow": (lambda weight: weight * tf.random.uniform([2]) - 9.0, False),
    "drawn by Keras": (
        lambda weight: weight * keras.random.uniform([2], seed=GENERATOR) - 9,
        False,
    ),
    "drawn alike": (lambda weight: weight * tf.random.stateless_uniform([2], [1, 2]) - 9, False),
    "a constant": (lambda weight: tf.constant([-1.0, -2.0]), False),
}


@pytest.mark.parametrize(("compute", "is_weight"), COMPUTED.values(), ids=COMPUTED)
def test_what_is_drawn_anew_at_each_step_is_no_weight(compute, is_weight):
    """A step on drawn points teaches the weights that made them, whatever a guard holds of one."""
    weight = tf.Variable([0.1, 0.2])

    @tf.function
    def beyond():
        given = compute(weight)
        with shares_held() as shares:
            watched(Guard("Log", None, None, 1e-3), given, tf.maximum(given, 1e-3))
        return shares[0][1]

    assert bool(beyond()) is is_weight
