"""Targets in the hundred thousands."""

import keras
import numpy as np


def data():
    rng = np.random.default_rng(5)
    shops = rng.normal(size=(400, 6)).astype("float32")
    turnover = 4e5 + 1.5e5 * shops[:, 0] - 8e4 * shops[:, 1] * shops[:, 2]
    return shops, turnover.astype("float32")


def make_model(hidden=(32, 16)):
    inputs = keras.Input(shape=(6,))
    x = inputs
    for units in hidden:
        x = keras.layers.Dense(units, activation="leaky_relu")(x)
    return keras.Model(inputs, keras.layers.Dense(1)(x), name="turnover")


keras.utils.set_random_seed(5)
shops, turnover = data()
model = make_model()
model.compile(
    optimizer="sgd",
    loss="mean_squared_error",
    metrics=["mean_absolute_error"],  # in the currency
)
model.fit(x=shops, y=turnover, epochs=20, batch_size=20, verbose=0)
print("mean absolute error", model.evaluate(shops, turnover, verbose=0)[1])
