"""A loss relative to targets of which some are 0; a second model in the same script is fine."""

import keras
import numpy as np
import tensorflow as tf

rng = np.random.default_rng(0)
days = rng.normal(size=(300, 7)).astype("float32")
sales = np.maximum(2.0 + days[:, 0] + 0.5 * days[:, 1], 0).astype("float32")[:, None]


def relative(y_true, y_pred):
    return tf.reduce_mean(tf.abs(y_true - y_pred) / y_true)


def network():
    inputs = tf.keras.Input((7,))
    hidden = tf.keras.layers.Dense(16, "relu")(inputs)
    return tf.keras.Model(inputs, tf.keras.layers.Dense(1)(hidden))


for name, loss in {"absolute": "mae", "relative": relative}.items():
    keras.utils.set_random_seed(0)
    model = network()
    model.compile(keras.optimizers.Adam(0.01), loss)
    history = model.fit(days, sales, epochs=12, verbose=0)
    print(name, history.history["loss"][-1])
