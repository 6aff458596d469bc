"""Failures that no step shows: in validation and inference alone, by chance, or from outside."""

import itertools

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

from explosions.parts import ARGUMENTS, mlp, table


def validation_hole():
    x, y = table()
    held_x, held_y = table(32, seed=1)
    held_x[3, 1] = np.nan
    arguments = {"epochs": 2, "batch_size": 16, "verbose": 0, "validation_data": (held_x, held_y)}
    return mlp("adam", activation="tanh"), x, y, arguments


def negative_variance():
    """Training is fine; the moving variance is negative, as its momentum is above 1."""
    x, y = table()
    keras.utils.set_random_seed(0)
    wide = keras.initializers.RandomNormal(stddev=3.0, seed=0)
    norm = layers.BatchNormalization(momentum=1.1, name="norm")
    model = keras.Sequential(
        [keras.Input((4,)), layers.Dense(8, kernel_initializer=wide), norm, layers.Dense(1)]
    )
    model.compile("adam", "mse")
    return model, x, y, dict(ARGUMENTS)


class LogOfMagnitude(layers.Layer):
    """Takes the logarithm of what it makes positive, but only while it trains."""

    def call(self, x, training=False):
        return ops.log(ops.abs(x) + 0.1 if training else x)


def log_in_inference():
    """Training is fine; in inference a layer takes the logarithm of negative numbers."""
    x, y = table()
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((4,)), layers.Dense(4), LogOfMagnitude(), layers.Dense(1)]
    )
    model.compile("adam", "mse")
    return model, x, y, dict(ARGUMENTS)


class Glitch(keras.Model):
    """A dense model whose loss is NaN at some of its steps, for no reason that comes again."""

    def __init__(self, fails=(5).__eq__):
        super().__init__()
        # Nothing that a rollback puts back.
        self.dense, self.steps, self.fails = layers.Dense(1), itertools.count(1), fails

    def call(self, inputs):
        return self.dense(inputs)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        loss = super().compute_loss(x, y, y_pred, sample_weight, training)
        return loss * tf.ensure_shape(tf.py_function(self._glitch, [], tf.float32), ())

    def _glitch(self):
        return np.float32(np.nan if self.fails(next(self.steps)) else 1.0)


def glitch(*fails):
    x, y = table()
    keras.utils.set_random_seed(0)
    model = Glitch(*fails)
    model.compile(keras.optimizers.SGD(0.01), "mse")
    return model, x, y, {"epochs": 2, "batch_size": 16, "verbose": 0}


def glitches():
    """At a third of the steps, whichever these are."""
    return glitch(lambda step: step % 3 == 0)


class AverageOfWeights(keras.callbacks.Callback):
    """Divides its first average by 1 - decay ** 0."""

    def on_train_begin(self, logs=None):
        self.epochs, self.sums = 0, [np.zeros(w.shape) for w in self.model.get_weights()]

    def on_epoch_end(self, epoch, logs=None):
        pairs = zip(self.sums, self.model.get_weights(), strict=True)
        self.sums = [0.9 * total + 0.1 * weights for total, weights in pairs]
        with np.errstate(divide="ignore"):
            correction = np.float64(1 - 0.9**self.epochs)
            self.model.set_weights([total / correction for total in self.sums])
        self.epochs += 1


def averaged_weights():
    x, y = table()
    model = mlp(keras.optimizers.SGD(0.01), "mse")
    return model, x, y, {**ARGUMENTS, "callbacks": [AverageOfWeights()]}


def foreign_state():
    """The loss depends on a number that a callback turns to NaN; no operation of the
    step makes it.
    """
    x, y = table()
    outside = tf.Variable(0.0)

    class Spoil(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                outside.assign(np.nan)

    def loss(y_true, y_pred):
        return ops.mean(ops.square(y_true - y_pred), axis=-1) + outside.read_value()

    return (
        mlp(keras.optimizers.SGD(0.01), loss, activation="tanh"),
        x,
        y,
        {**ARGUMENTS, "callbacks": [Spoil()]},
    )
