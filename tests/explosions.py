"""Small trainings that really go non-finite, each for one cause; kept once and used all
over the tests.
"""

import itertools

import keras
import numpy as np
import tensorflow as tf
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


def learning_rate():
    x, y = table()
    return mlp(keras.optimizers.SGD(30.0)), x, y, dict(ARGUMENTS)


def schedule():
    x, y = table()
    rates = keras.optimizers.schedules.PiecewiseConstantDecay([10], [0.01, 10.0])
    return mlp(keras.optimizers.SGD(rates)), x, y, dict(ARGUMENTS)


def unscaled_inputs():
    x, y = table()
    return mlp(keras.optimizers.SGD(0.1)), x * 3000.0 + 1000.0, y, dict(ARGUMENTS)


def unscaled_targets():
    x, y = table()
    return mlp(keras.optimizers.SGD(0.2, momentum=0.9)), x, y * 1e6 + 3e6, dict(ARGUMENTS)


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


def log_by_hand(y_true, y_pred):
    return -ops.sum(y_true * ops.log(y_pred), axis=-1)


def handwritten_log():
    """Softmax underflows to 0 for far outliers, and 0 * log(0) is NaN."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(160, 4)).astype("float32")
    classes = (x[:, 0] > 0).astype(int) + (x[:, 1] > 0)
    x[::7] *= 1000.0
    y = np.eye(3, dtype="float32")[classes]
    return (
        mlp(
            keras.optimizers.SGD(0.1), log_by_hand, outputs=3, last="softmax", metrics=["accuracy"]
        ),
        x,
        y,
        dict(ARGUMENTS),
    )


def root_of_distance():
    """sqrt at 0 is finite, its gradient is not."""
    x, _ = table()
    x[40] = 0.0
    y = np.linalg.norm(x, axis=1, keepdims=True)
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4,))
    hidden = layers.Dense(8, use_bias=False)(inputs)
    norm = layers.Lambda(lambda h: ops.sqrt(ops.sum(ops.square(h), axis=-1, keepdims=True)))(hidden)
    model = keras.Model(inputs, layers.Dense(1)(norm))
    model.compile(keras.optimizers.Adam(0.03), "mse")
    return model, x, y, {**ARGUMENTS, "shuffle": False, "epochs": 12}


def adam_without_epsilon():
    x, y = table()
    x[:, 3] = 0.0
    return mlp(keras.optimizers.Adam(0.01, epsilon=0.0), activation="tanh"), x, y, dict(ARGUMENTS)


def missing_cells():
    x, y = table()
    x[70, 2] = np.nan
    x[90, 0] = np.inf
    return mlp("adam", activation="tanh"), x, y, {**ARGUMENTS, "shuffle": False}


def nan_target():
    x, y = table()
    y[5] = np.nan
    return mlp(keras.optimizers.Adam(0.01)), x, y, {**ARGUMENTS, "shuffle": False}


def holes_in_both():
    x, y = table()
    x[70, 2] = np.nan
    y[5] = np.nan
    return mlp("adam", activation="tanh"), x, y, {**ARGUMENTS, "shuffle": False}


def missing_cells_and_large_targets():
    x, y = table()
    x[70, 2] = np.nan
    return (
        mlp(keras.optimizers.SGD(0.2, momentum=0.9)),
        x,
        y * 1e6 + 3e6,
        {**ARGUMENTS, "shuffle": False},
    )


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


def every_target_nan():
    x, y = table()
    return mlp("adam"), x, np.full_like(y, np.nan), dict(ARGUMENTS)


def every_input_nan():
    x, y = table()
    return mlp("adam"), np.full_like(x, np.nan), y, dict(ARGUMENTS)


def validation_hole():
    x, y = table()
    held_x, held_y = table(32, seed=1)
    held_x[3, 1] = np.nan
    arguments = {"epochs": 2, "batch_size": 16, "verbose": 0, "validation_data": (held_x, held_y)}
    return mlp("adam", activation="tanh"), x, y, arguments


def negative_variance():
    """Training is fine; the moving variance is negative, as its momentum is above 1."""
    x, y = table()
    keras.utils.set_random_seed(0)
    wide = keras.initializers.RandomNormal(stddev=3.0, seed=0)
    norm = layers.BatchNormalization(momentum=1.1, name="norm")
    model = keras.Sequential(
        [keras.Input((4,)), layers.Dense(8, kernel_initializer=wide), norm, layers.Dense(1)]
    )
    model.compile("adam", "mse")
    return model, x, y, dict(ARGUMENTS)


class LogOfMagnitude(layers.Layer):
    """Takes the logarithm of what it makes positive, but only while it trains."""

    def call(self, x, training=False):
        return ops.log(ops.abs(x) + 0.1 if training else x)


def log_in_inference():
    """Training is fine; in inference a layer takes the logarithm of negative numbers."""
    x, y = table()
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((4,)), layers.Dense(4), LogOfMagnitude(), layers.Dense(1)]
    )
    model.compile("adam", "mse")
    return model, x, y, dict(ARGUMENTS)


def bias_of_no_share():
    """A bias begins with log(0)."""
    x, y = table()
    model = mlp("adam")
    model.layers[-1].bias.assign([-np.inf])
    return model, x, y, dict(ARGUMENTS)


def outlying_targets():
    """Two targets out of 160 are wrong by orders of magnitude; the rows held back are clean."""
    x, y = table()
    y[[20, 90]] = 1e4
    return mlp(keras.optimizers.SGD(0.1)), x, y, dict(ARGUMENTS)


def large_targets():
    x, y = table()
    return mlp(keras.optimizers.SGD(0.1)), x, y * 1e6 + 3e6, dict(ARGUMENTS)


def exponential():
    x, y = table()
    return mlp(keras.optimizers.SGD(0.1), activation="exponential"), x, y, dict(ARGUMENTS)


def binary_by_hand(y_true, y_pred):
    return -ops.mean(y_true * ops.log(y_pred) + (1 - y_true) * ops.log(1 - y_pred), axis=-1)


def handwritten_binary(last="sigmoid", loss=binary_by_hand, gain=20.0):
    """The first outputs lie so far apart that their sigmoid rounds to 0 and 1."""
    x, _ = table()
    model = mlp(keras.optimizers.Adam(0.03), loss, activation="tanh", last=last)
    model.layers[-1].kernel.assign(model.layers[-1].kernel * gain)
    return model, x, (x[:, :1] > 0).astype("float32"), dict(ARGUMENTS)


REPAIRABLE = (
    learning_rate,
    unscaled_inputs,
    unscaled_targets,
    initialization,
    recurrence,
    handwritten_log,
    root_of_distance,
    missing_cells,
    nan_target,
)
HOPELESS = (every_target_nan, every_input_nan)
UNTREATED = (adam_without_epsilon, missing_cells, nan_target)  # by smaller steps


def overflowing_mean():
    """Every loss is finite, 5e36, but not the sum over the rows of an epoch, from which
    Keras takes the mean.
    """
    x, y = table()
    model = keras.Sequential([keras.Input((4,)), layers.Dense(1)])
    model.compile(keras.optimizers.SGD(1e-30), "mse")
    return model, x, y * 0.0 + 2.2e18, dict(ARGUMENTS)


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


def log_in_a_layer():
    x, y = table()
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4,))
    hidden = layers.Lambda(lambda h: ops.log(h))(layers.Dense(8, activation="relu")(inputs))
    model = keras.Model(inputs, layers.Dense(1)(hidden))
    model.compile(keras.optimizers.Adam(0.01), "mse")
    return model, x, y, dict(ARGUMENTS)


def root_in_the_loss():
    def rooted(y_true, y_pred):
        return ops.mean(ops.sqrt(y_pred) - y_true, axis=-1)

    x, y = table()
    return mlp("adam", rooted, activation="tanh"), x, y, dict(ARGUMENTS)


class MaskedMean(layers.Layer):
    """The mean over the steps that are not padded with zeros."""

    def call(self, inputs):
        mask = ops.cast(ops.any(ops.not_equal(inputs, 0.0), axis=-1, keepdims=True), "float32")
        return ops.sum(inputs * mask, axis=1) / ops.sum(mask, axis=1)


def padded(pooling, pool):
    """Return a training on sequences pooled by a layer, one of them nothing but padding; y is the
    `pool` of a feature.
    """
    rng = np.random.default_rng(0)
    x = rng.normal(size=(160, 5, 3)).astype("float32")
    y = pool(x[:, :, 0], axis=1, keepdims=True)
    x[70] = 0.0
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((5, 3)), pooling(), layers.Dense(4, activation="tanh"), layers.Dense(1)]
    )
    model.compile(keras.optimizers.Adam(0.01), "mse")
    return model, x, y, {**ARGUMENTS, "shuffle": False}


def nothing_but_padding():
    return padded(MaskedMean, np.mean)


def constant_feature_without_epsilon():
    x, y = table()
    x[:, 3] = 0.0
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((4,)),
            layers.BatchNormalization(epsilon=0.0),
            layers.Dense(4),
            layers.Dense(1),
        ]
    )
    model.compile(keras.optimizers.Adam(0.01), "mse")
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


def relu_before_crossentropy():
    x, _ = table()
    y = np.eye(3, dtype="float32")[(x[:, 0] > 0).astype(int) + (x[:, 1] > 0)]

    def crossentropy(y_true, y_pred):
        return -ops.sum(y_true * ops.log(y_pred / ops.sum(y_pred, axis=-1, keepdims=True)), axis=-1)

    crossentropy.__name__ = "categorical_crossentropy"
    return (
        mlp(keras.optimizers.Adam(0.01), crossentropy, outputs=3, last="relu"),
        x,
        y,
        dict(ARGUMENTS),
    )


class Glitch(keras.Model):
    """A dense model whose loss is NaN at some of its steps, for no reason that comes again."""

    def __init__(self, fails=(5).__eq__):
        super().__init__()
        # Nothing that a rollback puts back.
        self.dense, self.steps, self.fails = layers.Dense(1), itertools.count(1), fails

    def call(self, inputs):
        return self.dense(inputs)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        loss = super().compute_loss(x, y, y_pred, sample_weight, training)
        return loss * tf.ensure_shape(tf.py_function(self._glitch, [], tf.float32), ())

    def _glitch(self):
        return np.float32(np.nan if self.fails(next(self.steps)) else 1.0)


def glitch(*fails):
    x, y = table()
    keras.utils.set_random_seed(0)
    model = Glitch(*fails)
    model.compile(keras.optimizers.SGD(0.01), "mse")
    return model, x, y, {"epochs": 2, "batch_size": 16, "verbose": 0}


def glitches():
    """At a third of the steps, whichever these are."""
    return glitch(lambda step: step % 3 == 0)


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


def foreign_state():
    """The loss depends on a number that a callback turns to NaN; no operation of the
    step makes it.
    """
    x, y = table()
    outside = tf.Variable(0.0)

    class Spoil(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                outside.assign(np.nan)

    def loss(y_true, y_pred):
        return ops.mean(ops.square(y_true - y_pred), axis=-1) + outside.read_value()

    return (
        mlp(keras.optimizers.SGD(0.01), loss, activation="tanh"),
        x,
        y,
        {**ARGUMENTS, "callbacks": [Spoil()]},
    )


class SampleScale(layers.Layer):
    """Divides by the standard deviation over the batch with b - 1 in the denominator; a
    moving one when it predicts.
    """

    def build(self, shape):
        self.moving = self.add_weight(shape=(shape[-1],), initializer="ones", trainable=False)

    def call(self, inputs, training=False):
        if not training:
            return inputs / self.moving
        spread = inputs - ops.mean(inputs, axis=0)
        count = ops.cast(ops.shape(inputs)[0], "float32")
        deviation = ops.sqrt(ops.sum(ops.square(spread), axis=0) / (count - 1.0) + 1e-6)
        self.moving.assign(0.9 * self.moving + 0.1 * ops.stop_gradient(deviation))
        return inputs / deviation


def single_row_left_over():
    """129 rows are trained on in batches of 16: the last one has a single row, and 0 /
    0 degrees of freedom.
    """
    x, y = table(rows=162)
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((4,)), SampleScale(), layers.Dense(8, activation="tanh"), layers.Dense(1)]
    )
    model.compile(keras.optimizers.Adam(0.01), "mse")
    return model, x, y, {**ARGUMENTS, "epochs": 20}


def sentinel_values():
    """Missing cells were written as 1e9."""
    x, y = table()
    x[[20, 90], [1, 3]] = 1e9
    return mlp(keras.optimizers.SGD(0.1)), x, y, {**ARGUMENTS, "epochs": 20}


def velocity_of_another_training():
    """Weights are set back between two trainings, as between the folds of a
    cross-validation, the optimizer is not.
    """
    x, y = table()
    model = mlp(keras.optimizers.SGD(0.05, momentum=0.9, nesterov=False))
    initial = model.get_weights()
    model.fit(x[:16], y[:16] * 1e4, epochs=1, batch_size=16, verbose=0)
    model.set_weights(initial)
    return model, x, y, {**ARGUMENTS, "epochs": 20}


def half_weights():
    """In weights of float16 an epsilon of 1e-8 is 0, and so is the gradient of a
    feature that is always 0.
    """
    x, y = table()
    x[:, 3] = 0.0
    keras.utils.set_random_seed(0)
    half = {"dtype": "float16"}
    hidden = layers.Dense(8, activation="tanh", **half)
    model = keras.Sequential([keras.Input((4,), dtype="float16"), hidden, layers.Dense(1, **half)])
    model.compile(keras.optimizers.Adam(0.01, epsilon=1e-8), "mse")
    return model, x.astype("float16"), y.astype("float16"), {**ARGUMENTS, "epochs": 20}


def critic():
    """The loss of a Wasserstein critic falls for as long as its weights grow."""
    x, _ = table()
    y = np.where(x[:, :1] > 0, 1.0, -1.0).astype("float32")

    def wasserstein(y_true, y_pred):
        return -ops.mean(y_true * y_pred, axis=-1)

    return mlp(keras.optimizers.SGD(0.1), wasserstein), x, y, {**ARGUMENTS, "epochs": 15}


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


def far_from_the_targets():
    """The first errors are 30 times what is left once the level of the targets is learned, and so
    are the first steps.
    """
    x, y = table()
    return (
        mlp(keras.optimizers.SGD(0.02), activation="elu"),
        x,
        y + 30.0,
        {**ARGUMENTS, "epochs": 20},
    )


def spikes():
    """One target in forty is wrong by orders of magnitude; the rows held back are clean."""
    x, y = table(rows=400)
    y[:320:40] = 1e5
    return mlp(keras.optimizers.SGD(0.1)), x, y, {**ARGUMENTS, "epochs": 10}


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


def decay_beyond_one():
    """AdamW takes 0.1 * 40 times each weight from it at every step."""
    x, y = table()
    return mlp(keras.optimizers.AdamW(0.1, weight_decay=40.0)), x, y, {**ARGUMENTS, "epochs": 20}


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


def noise():
    """Targets that do not depend on the inputs, at a rate that explodes: nothing can be learned."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(160, 4)), rng.normal(size=(160, 1))
    model = mlp(keras.optimizers.SGD(30.0))
    return model, x.astype("float32"), y.astype("float32"), dict(ARGUMENTS)


def poisson(y, p):
    return ops.mean(p - y * ops.log(p), axis=-1)


def counts():
    """Counts, and a likelihood that takes their rate from an output without activation."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1280, 4)).astype("float32")
    y = rng.poisson(np.exp(1.0 + 0.5 * x[:, :1] - 0.4 * x[:, 1:2])).astype("float32")
    return mlp(keras.optimizers.Adam(0.01), poisson), x, y, {**ARGUMENTS, "epochs": 10}


class Angle(layers.Layer):
    """The angle between halves of the inputs, whose slope is infinite where they point
    the same way.
    """

    def call(self, inputs):
        a, b = inputs[:, :2], inputs[:, 2:]
        lengths = ops.norm(a, axis=-1) * ops.norm(b, axis=-1) + 1e-9
        cosine = ops.clip(ops.sum(a * b, axis=-1) / lengths, -1.0, 1.0)
        return ops.arccos(cosine)[:, None]


def angle_of_equals():
    x, y = table()
    x[40, :2] = x[40, 2:] = [1.0, 0.0]
    keras.utils.set_random_seed(0)
    weights = keras.Sequential(
        [keras.Input((4,)), layers.Dense(4, use_bias=False, kernel_initializer="identity")]
    )
    model = keras.Sequential([keras.Input((4,)), weights, Angle(), layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.01), "mse")
    return model, x, y, {**ARGUMENTS, "shuffle": False}


def lasting_momentum():
    """SGD with a momentum of 1 goes on with every step it has ever taken."""
    x, y = table()
    return mlp(keras.optimizers.SGD(0.1, momentum=1.0)), x, y, {**ARGUMENTS, "epochs": 20}


class Attention(layers.Layer):
    """Leaves padding out of a softmax by -inf, as it is often written."""

    def build(self, shape):
        self.score = layers.Dense(1)
        self.score.build(shape)

    def call(self, inputs):
        padded = ops.all(ops.equal(inputs, 0.0), axis=-1)
        scores = ops.where(padded, -np.inf, ops.squeeze(self.score(inputs), -1))
        return ops.sum(inputs * ops.expand_dims(ops.softmax(scores), -1), axis=1)


def attention_to_nothing():
    """A row of padding alone has a softmax of nothing but -inf."""
    model, x, y, arguments = padded(Attention, np.max)
    return model, x, y, {**arguments, "epochs": 10}


def root_and_then_logarithm():
    """Guarding the root of negative values in a layer uncovers the logarithm of
    negative outputs in the loss.
    """
    x, y = table()

    def logarithmic(y_true, y_pred):
        return ops.mean(ops.square(ops.log(y_true + 1.0) - ops.log(y_pred)), axis=-1)

    keras.utils.set_random_seed(0)
    inputs = keras.Input((4,))
    root = layers.Lambda(lambda h: ops.sqrt(h))(layers.Dense(16, activation="tanh")(inputs))
    model = keras.Model(inputs, layers.Dense(1)(root))
    model.compile(keras.optimizers.Adam(0.02), logarithmic)
    return model, x, abs(y) * 2.0, {**ARGUMENTS, "epochs": 12}
