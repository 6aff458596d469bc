"""Weights that training carries out of the domain of what is computed with them."""

import keras
from keras import layers, ops

from explosions.parts import ARGUMENTS, table


class Precision(layers.Layer):
    """Gives a mean with one precision for all rows, which is a weight as it is."""

    def build(self, _):
        self.tau = self.add_weight(shape=(), initializer="ones", name="tau")

    def call(self, mean):
        return ops.concatenate([mean, ops.broadcast_to(self.tau, ops.shape(mean))], axis=-1)


def gaussian_of_precision(y, p):
    """The likelihood of targets of one column."""
    mean, precision = p[:, :1], p[:, 1:]
    return 0.5 * (precision * ops.square(y - mean) - ops.log(precision))


def falling_precision():
    """Targets far from the first predictions carry the precision through 0."""
    x, y = table()
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((4,)), layers.Dense(16, "tanh"), layers.Dense(1), Precision()]
    )
    model.compile(keras.optimizers.SGD(0.05), gaussian_of_precision)
    return model, x, 5.0 * y, {**ARGUMENTS, "epochs": 20}
