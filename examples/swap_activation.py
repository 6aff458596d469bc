"""A recurrent layer whose activation has no bound.

Symptom: the loss is noisy for a few epochs, then NaN; on shorter sequences the same layer trains.
Cause:   with relu in the place of tanh the cell's state has no bound; fed back over 200
         time steps it overflows.
Remedy:  the bounded tanh, which an LSTM has by default.
"""

import keras
import numpy as np
from _show import show


def build():
    random = np.random.default_rng(0)
    x = random.normal(0, 1, (500, 200, 4)).astype("float32")
    y = np.tanh(x[:, -5:, :2].sum(axis=(1, 2)))[:, None].astype("float32")
    model = keras.Sequential(
        [
            keras.Input((200, 4)),
            keras.layers.LSTM(32, activation="relu"),
            keras.layers.Dense(1),
        ]
    )
    model.compile(keras.optimizers.Adam(0.001), "mean_squared_error")
    return model, x, y, {"epochs": 10, "batch_size": 50}


if __name__ == "__main__":
    show(build)
