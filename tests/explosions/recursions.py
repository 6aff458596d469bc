"""Formulas that go step after step, in which numbers grow."""

import keras
import numpy as np
from keras import layers, ops

from explosions.parts import ARGUMENTS


def forward_recursion():
    """The sum over all paths through 60 steps, as a product of matrices: 5 ** 60 is too great."""
    states, steps = 5, 60
    rng = np.random.default_rng(0)
    x = rng.normal(size=(64, steps, 4)).astype("float32")
    y = x.argmax(axis=-1).astype("int32")

    def unlikelihood(y_true, scores):
        along = ops.sum(ops.one_hot(y_true, states) * scores, axis=(1, 2))
        paths = ops.exp(scores[:, 0])
        for step in range(1, steps):
            paths = ops.matmul(paths, ops.ones((states, states))) * ops.exp(scores[:, step])
        return ops.log(ops.sum(paths, axis=1)) - along

    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((steps, 4)), layers.Dense(states)])
    model.compile(keras.optimizers.Adam(0.1), unlikelihood)
    return model, x, y, {**ARGUMENTS, "epochs": 4}


def squares_of_squares():
    """Layers without weights that make numbers without bound, whatever the weights are."""
    x = np.random.default_rng(0).normal(size=(160, 6)).astype("float32")
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6,))
    hidden = layers.Dense(6)(inputs)
    for _ in range(9):
        hidden = layers.Multiply()([hidden, hidden])
    model = keras.Model(inputs, layers.Dense(1)(hidden))
    model.compile(keras.optimizers.SGD(0.01), "mse")
    return model, x, x[:, :1], dict(ARGUMENTS)
