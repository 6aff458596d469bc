"""The root of a squared distance that is exactly 0 for some rows: the root is finite
there, its gradient is not.
"""

import keras
import numpy as np
from keras import ops
from keras.layers import Dense, Input
from keras.models import Sequential
from keras.optimizers import Adam


def euclidean(y_true, y_pred):
    squared = ops.sum(ops.square(y_true - y_pred), axis=-1)
    return ops.mean(ops.sqrt(squared))


keras.utils.set_random_seed(3)
rng = np.random.default_rng(3)
track = rng.uniform(-1, 1, size=(300, 4)).astype("float32")
where = np.maximum(track[:, :2] + track[:, 2:], 0)
track[::10] = 0
where[::10] = 0  # at rest

network = Sequential()
network.add(Input((4,)))
network.add(Dense(24, activation="relu", use_bias=False))
network.add(Dense(2, activation="relu", use_bias=False))
network.compile(loss=euclidean, optimizer=Adam(3e-3))
network.fit(track, where, epochs=20, batch_size=30, verbose=0)
