"""A tanh network on inputs of 0..100 with Adam, often shown as a program that goes NaN.
It does not.

Symptom: none; the loss falls and stays finite.
Cause:   tanh is bounded, so large inputs only saturate it, and Adam divides its step by the
         gradient's own size.
Remedy:  none needed against NaN. Scaling the inputs makes it learn better.
         `article_tanh_sgd.py` fails for real.
"""

import keras
import numpy as np
from _show import plain


def build():
    random = np.random.default_rng(0)
    x = random.uniform(0, 100, (1000, 10)).astype("float32")
    y = x.sum(axis=1, keepdims=True) / 1000
    model = keras.Sequential(
        [
            keras.Input((10,)),
            keras.layers.Dense(64, activation="tanh"),
            keras.layers.Dense(64, activation="tanh"),
            keras.layers.Dense(1),
        ]
    )
    model.compile(keras.optimizers.Adam(0.001), "mean_squared_error")
    return model, x, y, {"epochs": 20, "batch_size": 32}


if __name__ == "__main__":
    plain(build)
