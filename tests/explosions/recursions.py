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
