"""A subclassed model with a softmax written by hand, whose exponentials overflow."""

import keras
import numpy as np
import tensorflow as tf


class Pooling(keras.Model):
    """Weigh the steps of a sequence by what they hold."""

    def __init__(self, units=8):
        super().__init__()
        self.score = keras.layers.Dense(1)
        self.hidden = keras.layers.Dense(units, activation="relu")
        self.out = keras.layers.Dense(1)

    def call(self, inputs):
        scores = tf.exp(40.0 * self.score(inputs))
        weights = scores / tf.reduce_sum(scores, axis=1, keepdims=True)
        pooled = tf.reduce_sum(weights * inputs, axis=1)
        return self.out(self.hidden(pooled))


keras.utils.set_random_seed(0)
rng = np.random.default_rng(0)
sequences = rng.normal(size=(320, 12, 3)).astype("float32")
strongest = sequences[np.arange(320), sequences[:, :, 0].argmax(axis=1)]
totals = strongest.sum(axis=1, keepdims=True)

model = Pooling()
model.compile(optimizer=keras.optimizers.Adam(learning_rate=1e-2), loss="mse")
history = model.fit(sequences, totals, batch_size=32, epochs=15, verbose=0)
