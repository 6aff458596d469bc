"""Clipping does not help here: the gradient itself is non-finite before it can be clipped.

Symptom: NaN from the first batch on in which one row is predicted exactly, whatever clipnorm is.
Cause:   the loss is a distance, sqrt(sum of squares); at distance 0 the gradient of the square root
         is infinite, and the chain rule makes inf * 0 = NaN of it before the clipping begins.
Remedy:  keep the square root off 0 (a small constant under the root); no optimizer setting can.
"""

import keras
import numpy as np
from _show import show
from keras import ops


def distance(y_true, y_pred):
    return ops.sqrt(ops.sum(ops.square(y_true - y_pred), axis=-1))


def build():
    random = np.random.default_rng(0)
    x = random.uniform(-1, 1, (1000, 10)).astype("float32")
    x[::100] = 0  # without biases an all-zero row is predicted exactly
    y = x[:, :2] * x[:, 2:4]
    model = keras.Sequential(
        [
            keras.Input((10,)),
            keras.layers.Dense(64, activation="tanh", use_bias=False),
            keras.layers.Dense(2, use_bias=False),
        ]
    )
    model.compile(keras.optimizers.Adam(0.001, clipnorm=1.0), distance)
    return model, x, y, {"epochs": 20, "batch_size": 32}


if __name__ == "__main__":
    show(build)
