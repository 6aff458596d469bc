"""Adam without an epsilon, and a column that is always 0; fed by tf.data."""

import keras
import numpy as np
import tensorflow as tf

keras.utils.set_random_seed(0)
x = np.random.default_rng(0).normal(size=(320, 5)).astype("float32")
x[:, 4] = 0.0
y = np.cos(x[:, 0]) + x[:, 1]
train = tf.data.Dataset.from_tensor_slices((x[:256], y[:256])).shuffle(256, seed=0).batch(32)
held = tf.data.Dataset.from_tensor_slices((x[256:], y[256:])).batch(32)

adam = keras.optimizers.Adam(learning_rate=0.01, epsilon=0.0)
model = keras.Sequential([keras.layers.Dense(16, activation="tanh"), keras.layers.Dense(1)])
model.compile(optimizer=adam, loss="mse")
model.fit(train, validation_data=held, epochs=15, verbose=0)
