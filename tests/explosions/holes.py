"""NaN and inf in inputs, targets, weights and what was computed of them; labels out of range."""

import keras
import numpy as np
from keras import layers, ops

from explosions.parts import ARGUMENTS, mlp, noisy_table, table


def missing_cells():
    x, y = table()
    x[70, 2] = np.nan
    x[90, 0] = np.inf
    return mlp("adam", activation="tanh"), x, y, {**ARGUMENTS, "shuffle": False}


def hole_behind_pooling():
    """On a CPU the maximum of NaN is the lowest number, on which the next layer overflows."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 160).astype("int32")
    x = np.sin((0.3 + 0.3 * y)[:, None] * np.arange(20)).astype("float32")[..., None]
    x[70, 13] = np.nan
    keras.utils.set_random_seed(0)
    blocks = [
        layer
        for _ in range(2)
        for layer in (layers.Conv1D(8, 3, activation="relu"), layers.MaxPooling1D(2))
    ]
    model = keras.Sequential([keras.Input((20, 1)), *blocks, layers.Flatten(), layers.Dense(3)])
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model, x, y, dict(ARGUMENTS)


def nan_target():
    x, y = table()
    y[5] = np.nan
    return mlp(keras.optimizers.Adam(0.01)), x, y, {**ARGUMENTS, "shuffle": False}


def holes_in_both():
    x, y = table()
    x[70, 2] = np.nan
    y[5] = np.nan
    return mlp("adam", activation="tanh"), x, y, {**ARGUMENTS, "shuffle": False}


def labels_from_one():
    """Labels run from 1 to 3, the output layer has classes 0 to 2; compiled by XLA, that is NaN
    instead of an error.
    """
    x, _ = table()
    y = (1 + (x[:, 0] > 0).astype("int32") + (x[:, 1] > 0)).astype("int32")
    model = mlp(
        keras.optimizers.Adam(0.02),
        "sparse_categorical_crossentropy",
        outputs=3,
        last="softmax",
        jit_compile=True,
    )
    return model, x, y, dict(ARGUMENTS)


def stray_label():
    model, x, y, arguments = labels_from_one()
    y -= 1
    y[[20, 150]] = -1
    return model, x, y, arguments


def every_target_nan():
    x, y = table()
    return mlp("adam"), x, np.full_like(y, np.nan), dict(ARGUMENTS)


def every_input_nan():
    x, y = table()
    return mlp("adam"), np.full_like(x, np.nan), y, dict(ARGUMENTS)


def bias_of_no_share():
    """A bias begins with log(0)."""
    x, y = table()
    model = mlp("adam")
    model.layers[-1].bias.assign([-np.inf])
    return model, x, y, dict(ARGUMENTS)


class BlackFrames(keras.utils.PyDataset):
    """Divides each frame by its largest value, of which a black one has none."""

    def __init__(self):
        super().__init__()
        rng = np.random.default_rng(0)
        self.frames = rng.uniform(1, 9, size=(10, 8, 4)).astype("float32")
        self.frames[6, 3] = 0.0

    def __len__(self):
        return len(self.frames)

    def __getitem__(self, index):
        frames = self.frames[index]
        with np.errstate(invalid="ignore"):
            return frames / frames.max(axis=1, keepdims=True), frames[:, :1] / 9.0


def black_frame():
    return (
        mlp(keras.optimizers.Adam(0.01), activation="tanh"),
        BlackFrames(),
        None,
        {"epochs": 2, "verbose": 0},
    )


def missing_weights():
    x, y = table()
    weights = np.ones(len(x), "float32")
    weights[[5, 77]] = np.nan
    return (
        mlp(keras.optimizers.Adam(0.01)),
        x,
        y,
        {**ARGUMENTS, "epochs": 20, "sample_weight": weights},
    )


def weight_of_an_uncounted_class():
    """Class weights of which one is 1 / 0: the rarest class was counted in other data."""
    x, _ = table(rows=480)
    classes = np.where(x[:, 1] > 1.2, 2, x[:, 0] > 0).astype("int32")
    model = mlp(
        keras.optimizers.Adam(0.02), "sparse_categorical_crossentropy", outputs=3, last="softmax"
    )
    weights = {0: 0.8, 1: 0.8, 2: np.inf}
    return model, x, classes, {**ARGUMENTS, "epochs": 8, "class_weight": weights}


def weight_of_a_constant_target():
    """Losses weighed with 1 / variance, of which one is 1 / 0, given in another order than that of
    the outputs.
    """
    x, y = table()
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4,))
    hidden = layers.Dense(16, "relu")(inputs)
    outputs = [layers.Dense(1, name=name)(hidden) for name in ("wind", "snow")]
    model = keras.Model(inputs, outputs)
    weights = {"snow": np.inf, "wind": 1.0 / np.var(y)}
    model.compile(keras.optimizers.Adam(0.02), {"wind": "mse", "snow": "mse"}, loss_weights=weights)
    return model, x, {"wind": y, "snow": 0.0 * y}, {**ARGUMENTS, "epochs": 8}


def adapted_to_holes():
    """A Normalization layer in front was adapted to the same data, holes and all."""
    x, y = noisy_table()
    x = 10.0 * x + 50.0
    x[np.random.default_rng(0).random(x.shape) < 0.02] = np.nan
    normalization = layers.Normalization()
    normalization.adapt(x)
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((4,)), normalization, layers.Dense(16, "relu"), layers.Dense(1)]
    )
    model.compile(keras.optimizers.Adam(0.02), "mse")
    return model, x, y, {**ARGUMENTS, "epochs": 6}


def loaded_in_another_order():
    """A frozen body, whose means and variances were set in each other's place."""
    x, y = table()
    keras.utils.set_random_seed(0)
    body = []
    for width in (16, 8):
        body += [layers.Dense(width), layers.BatchNormalization(), layers.ReLU()]
    model = keras.Sequential([keras.Input((4,)), *body, layers.Dense(1)])
    through = x
    for layer in body:
        layer.trainable = False
        if isinstance(layer, layers.BatchNormalization):
            mean, variance = np.mean(through, axis=0), np.var(through, axis=0)
            layer.set_weights([*layer.get_weights()[:2], mean, variance])
            through = layer(through)
            layer.set_weights([*layer.get_weights()[:2], variance, mean])
        else:
            through = layer(through)
    model.compile(keras.optimizers.Adam(0.02), "mse")
    return model, x, y, {**ARGUMENTS, "epochs": 6}


class Masked(layers.Layer):
    """Fills what was not measured by a mask, which 0 * NaN passes by."""

    def call(self, x):
        known = ops.cast(ops.logical_not(ops.isnan(x)), x.dtype)
        return ops.concatenate([known * x, known], axis=-1)


def mask_times_nan():
    x, y = table()
    x[np.random.default_rng(0).random(x.shape) < 0.1] = np.nan
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((4,)), Masked(), layers.Dense(8, "relu"), layers.Dense(1)]
    )
    model.compile("adam", "mse")
    return model, x, y, dict(ARGUMENTS)


def missing_words():
    """Rows of a pretrained embedding that hold NaN, for words that its file had not."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 40, size=(640, 6))
    rows = rng.normal(0.0, 0.3, size=(40, 8)).astype("float32")
    y = rows[x].sum(axis=(1, 2)).astype("float32")
    rows[[4, 9, 17]] = np.nan
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((6,), dtype="int32"),
            layers.Embedding(40, 8),
            layers.Flatten(),
            layers.Dense(1),
        ]
    )
    model.layers[0].set_weights([rows])
    model.compile(keras.optimizers.Adam(0.02), "mse")
    return model, x, y, dict(ARGUMENTS)


def logit_of_shares():
    """Shares of exactly 1 are divided by 0, and of those of exactly 0 the logarithm is taken, on
    one line, in most batches.
    """
    x, y = table(rows=320)
    shares = 1.0 / (1.0 + np.exp(-x))
    shares[::10, 0], shares[1::10, 1] = 1.0, 0.0

    keras.utils.set_random_seed(0)
    logit = layers.Lambda(lambda share: ops.log(share / (1.0 - share)))
    model = keras.Sequential([keras.Input((4,)), logit, layers.Dense(8, "relu"), layers.Dense(1)])
    model.compile(keras.optimizers.Adam(0.02), "mse")
    return model, shares, y, {**ARGUMENTS, "epochs": 8}
