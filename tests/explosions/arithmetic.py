"""What float16 and the compiler XLA make of operations that are fine otherwise."""

import keras
import numpy as np
from keras import layers, ops

from explosions.parts import ARGUMENTS, table


class Memberships(layers.Layer):
    """How near each row is to some centers, as shares of 1."""

    def build(self, shape):
        start = keras.initializers.RandomNormal(0.0, 1.0, seed=3)
        self.centers = self.add_weight(shape=(8, shape[-1]), initializer=start)

    def call(self, x):
        near = ops.exp(-ops.sum(ops.square(x[:, None] - self.centers), axis=-1))
        return near / ops.sum(near, axis=-1, keepdims=True)


def small_denominator():
    """Divides by sums of 1e-20. The gradient has (a / b) / b in it, of which XLA makes a / (b * b),
    and that square is 0 in float32.
    """
    x, _ = table(features=24)
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((24,)), Memberships(), layers.Dense(1)])
    model.compile(keras.optimizers.Adam(0.05), "mse", jit_compile=True)
    return model, x, np.tanh(x[:, :1] + x[:, 1:2]), dict(ARGUMENTS)


class Cosine(layers.Layer):
    def call(self, x):
        a, b = x[:, :4], x[:, 4:]
        norms = [ops.sqrt(ops.sum(part * part, axis=-1, keepdims=True)) for part in (a, b)]
        products = ops.sum(a * b, axis=-1, keepdims=True)
        return products / ops.maximum(norms[0] * norms[1], 1e-6)


def hidden_slope():
    """The root of a zero row has an infinite slope, and the maximum beside it a gradient of 0: that
    is 0 by TensorFlow's own kernel, and NaN by XLA.
    """
    x, y = table()
    x[[10, 20, 30]] = 0.0
    keras.utils.set_random_seed(0)
    inside = [layers.Dense(8, activation="tanh", use_bias=False), Cosine(), layers.Dense(1)]
    model = keras.Sequential([keras.Input((4,)), *inside])
    model.compile(keras.optimizers.Adam(0.03), "mse", jit_compile=True)
    return model, x, y, dict(ARGUMENTS)


def no_inverse():
    """A column of zeros leaves a matrix without an inverse: NaN by XLA, without it an error."""
    x, y = table()
    x[:, 1] = 0.0
    keras.utils.set_random_seed(0)
    whiten = layers.Lambda(lambda x: x @ ops.inv(ops.transpose(x) @ x))
    model = keras.Sequential([keras.Input((4,)), whiten, layers.Dense(1)])
    model.compile("adam", "mse", jit_compile=True)
    return model, x, y, dict(ARGUMENTS)


def half_precision():
    """Sums of raw bytes exceed 65504, the end of float16, once the weights have grown a little."""
    rng = np.random.default_rng(0)
    x = rng.uniform(0, 255, size=(160, 400)).astype("float32")
    y = x[:, :1] / 255.0
    keras.utils.set_random_seed(0)
    inputs = keras.Input((400,))
    hidden = layers.Dense(16, activation="relu", dtype="mixed_float16", kernel_initializer="ones")(
        inputs
    )
    model = keras.Model(inputs, layers.Dense(1, kernel_initializer="zeros")(hidden))
    model.compile(keras.optimizers.SGD(1e-6), "mse")
    return model, x, y, dict(ARGUMENTS)


def half_precision_or_not(layer, loss="mse", outputs=1, last=None, rate=0.01):
    """Return a model of which all but the weights is of half precision."""
    keras.utils.set_random_seed(0)
    half = "mixed_float16"
    ends = [
        layers.Dense(16, activation="relu", dtype=half),
        *([] if layer is None else [layer(half)]),
        layers.Dense(outputs, activation=last, dtype=half),
    ]
    model = keras.Sequential([keras.Input((4,)), *ends])
    model.compile(keras.optimizers.Adam(rate), loss)
    return model


def log_of_zero_in_half_precision():
    """In half precision, yet the logarithm of relu's zeros is one of 0 in float32 too."""
    x, y = table()
    model = half_precision_or_not(lambda half: layers.Lambda(ops.log, dtype=half))
    return model, x, y, dict(ARGUMENTS)


def small_share_in_half_precision():
    """The logarithm, in float32, of a probability that only float16 rounds to 0."""

    def loss(y, p):
        return -ops.sum(y * ops.log(p), axis=-1)

    x, y = table()
    sides = np.concatenate([y > 0, y <= 0], axis=-1).astype("float32")
    model = half_precision_or_not(None, loss, outputs=2, last="softmax", rate=0.1)
    return model, 3.0 * x, sides, {**ARGUMENTS, "epochs": 10}


def small_share_in_both_precisions():
    """As it, but of logits so great that it is 0 in float32 some steps later."""
    model, x, sides, arguments = small_share_in_half_precision()
    model.layers[-1].activation = lambda logits: ops.softmax(4.0 * logits)
    return model, x, sides, arguments


def half_gradient():
    """Forward everything fits into float16, backward the error of 1e4 times the slopes
    does not; no loss scale.
    """
    x, y = table()
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4,))
    hidden = layers.Dense(8, activation="tanh", dtype="mixed_float16")(inputs)
    hidden = layers.Dense(8, activation="tanh", dtype="mixed_float16")(hidden)
    outputs = layers.Dense(1, dtype="float32")(hidden)
    model = keras.Model(inputs, layers.Rescaling(3e4)(outputs))
    model.compile(keras.optimizers.Adam(0.01), "mse", auto_scale_loss=False)
    return model, x, y * 3e4, {**ARGUMENTS, "epochs": 20}


def sum_in_half_precision():
    """A sum over 400 bytes exceeds 65504, the largest number of float16, and is divided
    only then.
    """
    rng = np.random.default_rng(0)
    x = (rng.uniform(100, 255, size=(160, 1)) * rng.uniform(0.8, 1.2, size=(160, 400))).astype(
        "float32"
    )
    y = x.mean(axis=1, keepdims=True) / 100.0
    keras.utils.set_random_seed(0)
    inputs = keras.Input((400,))
    total = layers.Lambda(lambda h: ops.sum(h, axis=-1, keepdims=True), dtype="mixed_float16")(
        inputs
    )
    hidden = layers.Dense(8, activation="tanh")(layers.Rescaling(2.5e-5, dtype="float32")(total))
    model = keras.Model(inputs, layers.Dense(1)(hidden))
    model.compile(keras.optimizers.Adam(0.03), "mse")
    return model, x, y, {**ARGUMENTS, "epochs": 20}


class Hyperbolic(layers.Layer):
    """The distance of two points of a line; acosh has an infinite slope where they are the same."""

    def build(self, shape):
        self.scale = self.add_weight(shape=(), initializer="ones")

    def call(self, inputs):
        a, b = inputs[:, :2] * self.scale, inputs[:, 2:] * self.scale
        apart = ops.sum((a - b) ** 2, axis=-1)
        within = (9.0 - ops.sum(a * a, axis=-1)) * (9.0 - ops.sum(b * b, axis=-1))
        return ops.arccosh(1.0 + 2.0 * apart / within)[:, None]


def point_of_a_disk():
    x, y = table()
    x[2, :2] = x[2, 2:] = [1.0, 0.0]
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((4,)), Hyperbolic(), layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.01), "mse")
    return model, x, y, {**ARGUMENTS, "shuffle": False}
