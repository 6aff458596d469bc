"""A sigmoid network with binary crossentropy on soft targets of 0.01..0.99, often shown
as going NaN. It does not.

Symptom: none; the loss falls and stays finite.
Cause:   Keras computes its own crossentropy on the logits behind the sigmoid, so no
         logarithm of 0 is ever taken.
Remedy:  none needed. `article_sigmoid_log.py`, with the logarithms written by hand, fails for real.
"""

import keras
import numpy as np
from _show import plain


def build():
    random = np.random.default_rng(0)
    x = random.uniform(0, 100, (1000, 10)).astype("float32")
    y = np.where(x.mean(axis=1, keepdims=True) > 50, 0.99, 0.01).astype("float32")
    model = keras.Sequential(
        [
            keras.Input((10,)),
            keras.layers.Dense(64, activation="sigmoid"),
            keras.layers.Dense(1, activation="sigmoid"),
        ]
    )
    model.compile(keras.optimizers.Adam(0.001), "binary_crossentropy")
    return model, x, y, {"epochs": 20, "batch_size": 32}


if __name__ == "__main__":
    plain(build)
