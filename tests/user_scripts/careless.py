"""Initial weights with a standard deviation of 1 in layers of 64 units."""

import keras
import numpy as np
from keras import initializers, layers

keras.utils.set_random_seed(0)
data = np.random.default_rng(0).normal(size=(320, 4)).astype("float32")
answer = data[:, :1] - 0.5 * data[:, 1:2]

wide = initializers.RandomNormal(stddev=1.0, seed=0)
model = keras.Sequential(
    [
        keras.Input((4,)),
        layers.Dense(64, activation="relu", kernel_initializer=wide),
        layers.Dense(64, activation="relu", kernel_initializer=wide),
        layers.Dense(64, activation="relu", kernel_initializer=wide),
        layers.Dense(64, activation="relu", kernel_initializer=wide),
        layers.Dense(64, activation="relu", kernel_initializer=wide),
        layers.Dense(64, activation="relu", kernel_initializer=wide),
        layers.Dense(1),
    ],
)
rate = 0.01
model.compile(keras.optimizers.SGD(rate), "mse")
model.fit(data, answer, epochs=15, batch_size=16, verbose=0)
