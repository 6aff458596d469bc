"""Inputs and targets whose numbers are too large."""

import keras
import numpy as np
from keras import layers

from explosions.parts import ARGUMENTS, mlp, table


def unscaled_inputs():
    x, y = table()
    return mlp(keras.optimizers.SGD(0.1)), x * 3000.0 + 1000.0, y, dict(ARGUMENTS)


def raw_table_at_a_bold_rate():
    """At this rate neither inputs nor targets may stay as they are; at a lower one both may."""
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    x = rng.normal(100.0, 20.0, (256, 4)).astype("float32")
    y = x[:, :1] + x[:, 1:2] - x[:, 2:3]
    hidden = [layers.Dense(16, activation="softplus") for _ in range(2)]
    model = keras.Sequential([keras.Input((4,)), *hidden, layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.1), "mse")
    return model, x, y, dict(ARGUMENTS)


def unscaled_targets():
    x, y = table()
    return mlp(keras.optimizers.SGD(0.2, momentum=0.9)), x, y * 1e6 + 3e6, dict(ARGUMENTS)


def missing_cells_and_large_targets():
    x, y = table()
    x[70, 2] = np.nan
    return (
        mlp(keras.optimizers.SGD(0.2, momentum=0.9)),
        x,
        y * 1e6 + 3e6,
        {**ARGUMENTS, "shuffle": False},
    )


def outlying_targets():
    """Two targets out of 160 are wrong by orders of magnitude; the rows held back are clean."""
    x, y = table()
    y[[20, 90]] = 1e4
    return mlp(keras.optimizers.SGD(0.1)), x, y, dict(ARGUMENTS)


def coded_targets():
    """Where nothing was measured, the targets hold 1e20."""
    x, y = table()
    y[::9] = 1e20
    return mlp(keras.optimizers.SGD(0.1)), x, y, dict(ARGUMENTS)


def large_targets():
    x, y = table()
    return mlp(keras.optimizers.SGD(0.1)), x, y * 1e6 + 3e6, dict(ARGUMENTS)


def one_large_target_of_two():
    """A price in dollars beside a yes or no, each under a loss of its own."""
    x, y = table()
    inputs = keras.Input((4,))
    hidden = layers.Dense(16, "relu")(inputs)
    sold = layers.Dense(1, "sigmoid", name="sold")(hidden)
    model = keras.Model(inputs, {"price": layers.Dense(1, name="price")(hidden), "sold": sold})
    model.compile(keras.optimizers.SGD(0.1), {"price": "mse", "sold": "binary_crossentropy"})
    targets = {"price": y * 1e6 + 3e6, "sold": (y > 0).astype("float32")}
    return model, x, targets, dict(ARGUMENTS)


def columns_of_three_sizes():
    """Three columns of one output, a price beside a rate and a count."""
    x, y = table()
    sizes = np.float32([1e6, 1.0, 40.0])
    return (
        mlp(keras.optimizers.SGD(0.1), outputs=3),
        x,
        np.hstack([y, y + 1.0, -y]) * sizes,
        dict(ARGUMENTS),
    )


def overflowing_mean():
    """Every loss is finite, 5e36, but not the sum over the rows of an epoch, from which
    Keras takes the mean.
    """
    x, y = table()
    model = keras.Sequential([keras.Input((4,)), layers.Dense(1)])
    model.compile(keras.optimizers.SGD(1e-30), "mse")
    return model, x, y * 0.0 + 2.2e18, dict(ARGUMENTS)


def sentinel_values():
    """Missing cells were written as 1e9."""
    x, y = table()
    x[[20, 90], [1, 3]] = 1e9
    return mlp(keras.optimizers.SGD(0.1)), x, y, {**ARGUMENTS, "epochs": 20}


def spikes():
    """One target in forty is wrong by orders of magnitude; the rows held back are clean."""
    x, y = table(rows=400)
    y[:320:40] = 1e5
    return mlp(keras.optimizers.SGD(0.1)), x, y, {**ARGUMENTS, "epochs": 10}


def coded_inputs():
    """Where nothing was measured, one column holds 1e9."""
    x, y = table()
    x[::9, 1] = 1e9
    return mlp(keras.optimizers.SGD(0.1)), x, y, {**ARGUMENTS, "epochs": 20}


def likelihood_of_raw_inputs():
    """A Poisson likelihood with its rate as exp: of raw columns the exponent is thousands."""
    x, _ = table()
    y = np.random.default_rng(1).poisson(np.exp(x[:, :1] / 2)).astype("float32")
    model = keras.Sequential(
        [keras.Input((4,)), layers.Dense(8, activation="relu"), layers.Dense(1)]
    )
    model.compile(keras.optimizers.Adam(0.01), exponential_rate)
    return model, x * 9000.0 + 20000.0, y, dict(ARGUMENTS)


def exponential_rate(truth, prediction):
    return keras.ops.mean(keras.ops.exp(prediction) - truth * prediction)


def logits_of_raw_inputs():
    """A crossentropy by hand: raw columns make shares of exactly 0."""
    x, y = table()
    classes = np.eye(2, dtype="float32")[(y[:, 0] > np.median(y)).astype(int)]
    model = mlp(keras.optimizers.Adam(0.01), crossentropy_by_hand, outputs=2, last="softmax")
    return model, x * 300.0 + 500.0, classes, dict(ARGUMENTS)


def crossentropy_by_hand(truth, prediction):
    return -keras.ops.mean(keras.ops.sum(truth * keras.ops.log(prediction), axis=-1))


def byte_images():
    """The brightness of images whose pixels are whole numbers from 0 to 255."""
    rng = np.random.default_rng(0)
    brightness = rng.uniform(40.0, 215.0, size=(640, 1, 1, 1))
    x = np.clip(np.floor(brightness + 40.0 * rng.normal(size=(640, 8, 8, 3))), 0.0, 255.0).astype(
        "float32"
    )
    y = (brightness[:, 0, 0] / 64.0 + 0.3 * rng.normal(size=(640, 1))).astype("float32")
    keras.utils.set_random_seed(0)
    convolutions = [layers.Conv2D(8, 3, padding="same", activation="elu") for _ in range(2)]
    model = keras.Sequential(
        [keras.Input((8, 8, 3)), *convolutions, layers.GlobalAveragePooling2D(), layers.Dense(1)]
    )
    model.compile(keras.optimizers.SGD(0.05), "mse")
    return model, x, y, {**ARGUMENTS, "epochs": 6}


def masks_of_bytes():
    """Masks of 0 and 255 under a binary crossentropy, which falls for ever then."""
    x, _ = table()
    y = 255.0 * (x[:, :1] > 0).astype("float32")
    return (
        mlp(keras.optimizers.SGD(0.5), "binary_crossentropy", last="sigmoid"),
        x,
        y,
        {**ARGUMENTS, "epochs": 40},
    )
