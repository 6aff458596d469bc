"""Models of every structure, compiled, with data for them: what a strategy has to be
able to change.
"""

import keras
import numpy as np
from keras import layers, ops


def _compiled(model, loss="mse"):
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9), loss)
    return model


def _table(rows=48, features=4):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(rows, features)).astype("float32")
    return x, (x[:, :1] - 0.5 * x[:, 1:2]).astype("float32")


def sequential():
    model = keras.Sequential(
        [keras.Input((4,)), layers.Dense(6, activation="relu"), layers.Dense(1)]
    )
    return _compiled(model), *_table()


def functional():
    inputs = keras.Input((4,))
    hidden = layers.Dense(6, activation="relu")(inputs)
    hidden = layers.Add()([hidden, layers.Dense(6, activation="relu")(hidden)])
    return _compiled(keras.Model(inputs, layers.Dense(1)(hidden))), *_table()


def nested():
    inputs = keras.Input((4,))
    block = keras.Sequential(
        [keras.Input((4,)), layers.Dense(6, activation="relu"), layers.Dense(5, activation="relu")]
    )
    return _compiled(keras.Model(inputs, layers.Dense(1)(block(inputs)))), *_table()


def shared_layer():
    left, right = keras.Input((4,), name="left"), keras.Input((4,), name="right")
    first, second = layers.Dense(6, activation="relu"), layers.Dense(5, activation="relu")
    both = layers.Concatenate()([second(first(left)), second(first(right))])
    x, y = _table()
    return _compiled(keras.Model([left, right], layers.Dense(1)(both))), [x, x[::-1].copy()], y


def multi_input():
    numbers, series = keras.Input((4,), name="numbers"), keras.Input((5, 3), name="series")
    both = layers.Concatenate()(
        [
            layers.Dense(6, activation="relu")(numbers),
            layers.SimpleRNN(4, activation="relu")(series),
        ]
    )
    x, y = _table()
    more = np.random.default_rng(1).normal(size=(len(x), 5, 3)).astype("float32")
    return (
        _compiled(keras.Model({"numbers": numbers, "series": series}, layers.Dense(1)(both))),
        {"numbers": x, "series": more},
        y,
    )


def multi_output():
    inputs = keras.Input((4,))
    hidden = layers.Dense(6, activation="relu")(inputs)
    outputs = [layers.Dense(1, name="first")(hidden), layers.Dense(1, name="second")(hidden)]
    x, y = _table()
    return _compiled(keras.Model(inputs, outputs), ["mse", "mse"]), x, [y, -y]


@keras.saving.register_keras_serializable("nanfix_tests")
class Subclass(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.first, self.last = layers.Dense(6, activation="relu"), layers.Dense(1)

    def call(self, inputs):
        return self.last(self.first(inputs))


def subclass():
    x, y = _table()
    model = _compiled(Subclass())
    model(x[:2])
    return model, x, y


def image():
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, size=(48, 6, 6, 2)).astype("uint8")
    y = (x.mean(axis=(1, 2, 3))[:, None] / 255.0).astype("float32")
    stack = [
        layers.Conv2D(3, 3, padding="same", activation="relu"),
        layers.Flatten(),
        layers.Dense(4, activation="relu"),
    ]
    return _compiled(keras.Sequential([keras.Input((6, 6, 2)), *stack, layers.Dense(1)])), x, y


def half_precision():
    inputs = keras.Input((4,))
    hidden = layers.Dense(6, activation="relu", dtype="mixed_float16")(inputs)
    hidden = layers.Dense(6, activation="relu", dtype="mixed_float16")(hidden)
    return _compiled(keras.Model(inputs, layers.Dense(1)(hidden))), *_table()


def classifier():
    x, y = _table()
    model = keras.Sequential(
        [
            keras.Input((4,)),
            layers.Dense(6, activation="relu"),
            layers.Dense(1, activation="sigmoid"),
        ]
    )

    def by_hand(y_true, p):
        return -ops.mean(y_true * ops.log(p) + (1 - y_true) * ops.log(1 - p), axis=-1)

    return _compiled(model, by_hand), x, (y > 0).astype("float32")


STRUCTURES = (
    sequential,
    functional,
    nested,
    shared_layer,
    multi_input,
    multi_output,
    subclass,
    image,
    half_precision,
    classifier,
)
