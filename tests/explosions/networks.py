"""Networks that let numbers grow: initial weights, depth, recurrence, activations."""

import keras
import numpy as np
from keras import layers, ops

from explosions.parts import ARGUMENTS, mlp, table


def initialization():
    x, y = table()
    keras.utils.set_random_seed(0)
    hidden = [
        layers.Dense(
            64,
            activation="relu",
            kernel_initializer=keras.initializers.RandomNormal(stddev=1.0, seed=i),
        )
        for i in range(8)
    ]
    model = keras.Sequential([keras.Input((4,)), *hidden, layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.01), "mse")
    return model, x, y, dict(ARGUMENTS)


def recurrence():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(96, 30, 3)).astype("float32") + 2.0
    y = x[:, :, 0].mean(axis=1, keepdims=True)
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((30, 3)), layers.SimpleRNN(24, activation="relu"), layers.Dense(1)]
    )
    model.compile(keras.optimizers.SGD(0.3), "mse")
    return model, x, y, dict(ARGUMENTS)


def feedback():
    """The state of a recurrent layer grows with every time step, whatever the learning rate."""
    _, x, y, arguments = recurrence()
    keras.utils.set_random_seed(0)
    wide = keras.initializers.RandomNormal(stddev=1.0, seed=0)
    model = keras.Sequential(
        [
            keras.Input((30, 3)),
            layers.SimpleRNN(24, activation="relu", recurrent_initializer=wide),
            layers.Dense(1),
        ]
    )
    model.compile(keras.optimizers.SGD(0.02), "mse")
    return model, x, y, arguments


class Field(layers.Layer):
    """Follows a field that it learns for some time: each step adds to where it is."""

    def __init__(self):
        super().__init__()
        self.slope = layers.Dense(2, name="slope")

    def call(self, x):
        for _ in range(40):
            a, b = x[:, :1], x[:, 1:]
            x = x + 0.1 * self.slope(ops.concatenate([a, b, a * b, a * a, b * b], axis=1))
        return x


def followed_field():
    """Numbers that are squared in each of many steps, with weights as Keras draws them."""
    rng = np.random.default_rng(0)
    x = rng.uniform(0.5, 3.0, (160, 2)).astype("float32")
    keras.utils.set_random_seed(3)
    model = keras.Sequential([keras.Input((2,)), Field()])
    model.compile(keras.optimizers.Adam(0.01), "mse")
    return model, x, x[:, ::-1].copy(), dict(ARGUMENTS)


def exponential():
    x, y = table()
    return mlp(keras.optimizers.SGD(0.1), activation="exponential"), x, y, dict(ARGUMENTS)


def linear_throughout():
    """Layers without activations, at a rate that only sigmoids would stand."""
    x, _ = table()
    y = np.eye(2, dtype="float32")[(x[:, 0] > 0).astype(int)]
    return (
        mlp(keras.optimizers.SGD(3.0), activation="linear", outputs=2),
        x * 2.0,
        y,
        dict(ARGUMENTS),
    )


def deep_gradient():
    """Every layer multiplies by a little, sixty of them by too much."""
    x, y = table()
    keras.utils.set_random_seed(0)
    gain = keras.initializers.Orthogonal
    hidden = [
        layers.Dense(8, activation="relu", kernel_initializer=gain(gain=2.0, seed=i))
        for i in range(60)
    ]
    model = keras.Sequential([keras.Input((4,)), *hidden, layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.01), "mse")
    return model, x, y, {**ARGUMENTS, "epochs": 1}


def steep_waves():
    """What goes forward stays between -1 and 1; what comes back grows in each of twenty layers."""
    x, y = table()
    keras.utils.set_random_seed(0)
    hidden = [layers.Dense(8, activation=lambda h: ops.sin(30.0 * h)) for _ in range(20)]
    model = keras.Sequential([keras.Input((4,)), *hidden, layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.01), "mse")
    return model, x, y, {**ARGUMENTS, "epochs": 1}


def runaway_recurrence():
    """A level is to be read from noisy steps; recurrent weights a little above 1 let its gradient
    grow with each of them.
    """
    rng = np.random.default_rng(0)
    level = rng.normal(size=(960, 1, 1))
    x = (rng.normal(size=(960, 20, 3)) + 1.0 + level).astype("float32")
    y = (level[:, 0] + 0.3 * rng.normal(size=(960, 1))).astype("float32")
    keras.utils.set_random_seed(0)
    recurrent = layers.SimpleRNN(
        24, activation="relu", recurrent_initializer=keras.initializers.Orthogonal(gain=1.2, seed=0)
    )
    model = keras.Sequential([keras.Input((20, 3)), recurrent, layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.1), "mse")
    return model, x, y, {**ARGUMENTS, "epochs": 6, "batch_size": 32}


def turn(y_true, y_pred):
    return ops.mean(1.0 - ops.cos(ops.arctan2(y_pred[:, 1:], y_pred[:, :1]) - y_true))


def heading_of_nothing():
    """The last layer begins as zeros: the angle of (0, 0) has no slope."""
    x, _ = table()
    y = np.arctan2(x[:, :1] + 0.3 * x[:, 1:2], x[:, 2:3])
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((4,)),
            layers.Dense(16, "relu"),
            layers.Dense(2, kernel_initializer="zeros", name="heading"),
        ]
    )
    model.compile(keras.optimizers.Adam(0.01), turn)
    return model, x, y, {**ARGUMENTS, "epochs": 6}
