"""A sigmoid network that really goes NaN: binary crossentropy with the logarithms written by hand.

Symptom: the loss falls nicely, then is NaN from one step to the next.
Cause:   a saturated sigmoid rounds to exactly 0 or 1 in float32; log(0) is -inf, and 0
         * -inf is NaN.
Remedy:  compute the loss from the logits (`BinaryCrossentropy(from_logits=True)`), which never
         forms the probability.
"""

import keras
import numpy as np
from _show import show
from keras import ops


def log_loss(y_true, p):
    return -ops.mean(y_true * ops.log(p) + (1 - y_true) * ops.log(1 - p))


def build():
    random = np.random.default_rng(0)
    x = random.normal(0, 3, (1000, 10)).astype("float32")
    y = (x.sum(axis=1, keepdims=True) > 0).astype("float32")
    model = keras.Sequential(
        [
            keras.Input((10,)),
            keras.layers.Dense(64, activation="relu"),
            keras.layers.Dense(64, activation="relu"),
            keras.layers.Dense(1, activation="sigmoid"),
        ]
    )
    model.compile(keras.optimizers.Adam(0.003), log_loss, metrics=["accuracy"])
    return model, x, y, {"epochs": 20, "batch_size": 32}


if __name__ == "__main__":
    show(build)
