"""What a prepared model makes of rows, looked at without a step being taken."""

import explosions
import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from nanfix.install._insight import Insight
from nanfix.model.snapshot import take_as_it_is


def insight(model):
    return Insight(model, lambda size, count: [], lambda before: None)


def test_gradients_are_those_of_the_training_step_and_nothing_changes():
    x, y = explosions.table()
    model = explosions.mlp(keras.optimizers.SGD(0.5), metrics=["mae"])
    held = [each.copy() for each in model.get_weights()]
    (gradient,) = insight(model).gradients([(ops.convert_to_tensor(x), ops.convert_to_tensor(y))])
    for one, other in zip(model.get_weights(), held, strict=True):
        np.testing.assert_array_equal(one, other)
    assert int(model.optimizer.iterations) == 0
    model.train_on_batch(x, y)
    for part, before, after in zip(gradient, held, model.get_weights(), strict=True):
        np.testing.assert_allclose(before - 0.5 * part, after, rtol=1e-4, atol=1e-6)


def test_gradients_of_one_output_are_those_of_a_training_with_its_loss_alone():
    x, y = map(ops.convert_to_tensor, explosions.table())
    inputs = keras.Input((4,))
    outputs = [keras.layers.Dense(1)(inputs) for _ in range(2)]
    model, losses = keras.Model(inputs, outputs), ["mse", "mae"]
    model.compile("sgd", losses)
    batch = [(x, (y, y))]
    found = [next(insight(model).gradients_of_output(batch, each)) for each in range(2)]
    for which, gradient in enumerate(found):
        model.compile("sgd", losses, loss_weights=[float(which == each) for each in range(2)])
        for part, whole in zip(gradient, next(insight(model).gradients(batch)), strict=True):
            np.testing.assert_allclose(part, whole)
    assert "compute_loss" not in vars(model)


def test_batches_of_any_size_are_taken_one_after_the_other():
    x, y = explosions.table()
    model = explosions.mlp("adam")
    batches = [(x[:8], y[:8]), (x[8:16], y[8:16]), (x[:1], y[:1])]
    assert len(list(insight(model).gradients(batches))) == 3
    assert take_as_it_is(model).weight_norm > 0


class Compiled(keras.Model):
    """Has a training step that is compiled, the update inside or in a branch of its graph."""

    def __init__(self, *, branches=False):
        super().__init__()
        self.dense, self.branches = keras.layers.Dense(1), branches

    def call(self, inputs):
        return self.dense(inputs)

    @tf.function
    def train_step(self, data):
        x, y = data
        if self.branches:
            loss = tf.cond(tf.size(x) > 0, lambda: self._update(x, y), lambda: 0.0)
        else:
            loss = self._update(x, y)
        return {"loss": loss}

    def _update(self, x, y):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(y - self(x, training=True)))
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
        return loss


@pytest.mark.parametrize(("branches", "seen"), [(False, 1), (True, 0)])
def test_gradients_of_a_step_of_the_users_own_where_they_can_be_seen(branches, seen):
    x, y = explosions.table()
    model = Compiled(branches=branches)
    model.compile("sgd")
    model(x)
    assert len(list(insight(model).gradients([(x[:8], y[:8])]))) == seen
