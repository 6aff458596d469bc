"""What the trainings of this catalogue are made of: data, networks, arguments of fit."""

import keras
import numpy as np
from keras import layers, ops


def table(rows=160, features=4, seed=0):
    """Return well-scaled inputs and a smooth target: x (rows, features), y (rows, 1)."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, features)).astype("float32")
    y = (x[:, :1] - 0.5 * x[:, 1:2] + 0.1 * np.tanh(x[:, 2:3])).astype("float32")
    return x, y


def rectified(x):
    """Return x where it is positive, else 0, for NaN too: what the relu kernels of some
    CPUs do and of others do not.
    """
    return ops.where(x > 0, x, 0.0)


class Cooled(layers.Layer):
    """Divides by a temperature, which a callback sets."""

    def __init__(self):
        super().__init__()
        self.temperature = self.add_weight(shape=(), initializer="ones", trainable=False)

    def call(self, x):
        return x / self.temperature


def mlp(
    optimizer="sgd", loss="mse", activation="relu", features=4, outputs=1, last=None, **compiled
):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((features,)),
            layers.Dense(8, activation=activation),
            layers.Dense(8, activation=activation),
            layers.Dense(outputs, activation=last),
        ]
    )
    model.compile(optimizer, loss, **compiled)
    return model


ARGUMENTS = {"epochs": 3, "batch_size": 16, "verbose": 0, "validation_split": 0.2}


def healthy():
    x, y = table()
    return mlp("adam"), x, y, dict(ARGUMENTS)


def noisy_table(rows=1280):
    """Return `table` with noise in the targets, whose variance, 0.09, is where every
    good training ends.
    """
    x, y = table(rows)
    noise = np.random.default_rng(100).normal(size=y.shape)
    return x, (y + 0.3 * noise).astype("float32")


def noisy_classes(rows=1280):
    """Return inputs and class indices 0 to 2, 15 % of them drawn by lot, so that no
    good training ends near 0.
    """
    x, _ = table(rows)
    rng = np.random.default_rng(5)
    classes = (x[:, 0] > 0).astype("int32") + (x[:, 1] > 0)
    drawn = rng.random(rows) < 0.15
    return x, np.where(drawn, rng.integers(0, 3, rows), classes).astype("int32")


def with_data(build, x, y, **arguments):
    """Return `build` with other data, and some other arguments of fit."""

    def rebuilt():
        model, _, _, given = build()
        return model, x.copy(), y.copy(), {**given, **arguments}

    return rebuilt


def noise():
    """Targets that do not depend on the inputs, at a rate that explodes: nothing can be learned."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(160, 4)), rng.normal(size=(160, 1))
    model = mlp(keras.optimizers.SGD(30.0))
    return model, x.astype("float32"), y.astype("float32"), dict(ARGUMENTS)
