"""A tanh network that really goes NaN: plain SGD, inputs and targets both far from unit scale.

Symptom: the loss jumps to inf, then NaN, within the first steps.
Cause:   the linear output layer multiplies an error of hundreds by the rate, overshoots, and
         overshoots further back.
Remedy:  scale the targets (and the inputs, which saturate the first tanh layer) to unit scale.
"""

import keras
import numpy as np
from _show import show


def build():
    random = np.random.default_rng(0)
    x = random.uniform(0, 100, (1000, 10)).astype("float32")
    y = x.sum(axis=1, keepdims=True)
    model = keras.Sequential(
        [
            keras.Input((10,)),
            keras.layers.Dense(64, activation="tanh"),
            keras.layers.Dense(64, activation="tanh"),
            keras.layers.Dense(1),
        ]
    )
    model.compile(keras.optimizers.SGD(0.05), "mean_squared_error")
    return model, x, y, {"epochs": 20, "batch_size": 32}


if __name__ == "__main__":
    show(build)
