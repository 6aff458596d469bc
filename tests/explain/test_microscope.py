"""The look at one step: norms that mean the same for every optimizer, and no tensor kept."""

import weakref

import explosions
import keras
import pytest
import tensorflow as tf

from nanfix.explain.microscope import _Microscope, observe
from nanfix.model.operations import traced


def test_gradient_of_a_scaled_loss_is_told_unscaled():
    plain = keras.optimizers.SGD(0.1)
    scaled = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1), initial_scale=2.0**10)
    batch = tuple(map(tf.constant, explosions.table(rows=8)))
    norms = [
        observe(explosions.mlp(optimizer), batch).gradient_norm for optimizer in (plain, scaled)
    ]
    assert norms[0] == pytest.approx(norms[1], rel=1e-5)


@pytest.mark.parametrize("jit", [True, False], ids=["xla", "plain"])
def test_a_slope_that_a_kernel_hides_is_seen_where_xla_computes_it(jit):
    model, x, y, _ = explosions.hidden_slope()
    model.jit_compile = jit
    seen = observe(model, (tf.constant(x[:16]), tf.constant(y[:16])))
    assert seen.masked is jit and seen.operation == ("Sqrt" if jit else None)


def test_microscope_holds_no_tensor_but_the_culprits():
    """What a step lets go of, the look at it lets go of too."""
    model, x, y, _ = explosions.healthy()
    alive = []

    class Watched(keras.layers.Layer):
        def call(self, x):
            product = x * 2.0
            alive.append(weakref.ref(product))
            return product + 1.0

    model = keras.Sequential([Watched(), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    observe(model, (tf.constant(x[:8]), tf.constant(y[:8])))
    microscope = _Microscope()
    with traced(microscope.visit):
        model(tf.constant(x[:8]))
        assert alive[-1]() is None
