"""Complex numbers that are divided by 0."""

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from explosions.parts import ARGUMENTS


class Phase(layers.Layer):
    """Gives the phases of a spectrum, of which a row of zeros has none."""

    def call(self, x):
        spectrum = tf.signal.rfft(x)
        phase = spectrum / tf.cast(tf.abs(spectrum), "complex64")
        return tf.concat([tf.math.real(phase), tf.math.imag(phase)], axis=-1)


def phase_of_silence():
    rng = np.random.default_rng(0)
    shift = rng.uniform(0.0, 2.0, size=(160, 1))
    x = np.sin(2 * np.pi * np.arange(16) / 16 + shift) + 0.1 * rng.normal(size=(160, 16))
    x[[40, 90]] = 0.0
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((16,)), Phase(), layers.Dense(16, "tanh"), layers.Dense(1)]
    )
    model.compile(keras.optimizers.Adam(0.01), "mse")
    return model, x.astype("float32"), shift.astype("float32"), {**ARGUMENTS, "epochs": 8}
