"""Operations outside their domain, in losses and layers."""

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

from explosions.parts import ARGUMENTS, mlp, table


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


def binary_by_hand(y_true, y_pred):
    return -ops.mean(y_true * ops.log(y_pred) + (1 - y_true) * ops.log(1 - y_pred), axis=-1)


def handwritten_binary(last="sigmoid", loss=binary_by_hand, gain=20.0):
    """The first outputs lie so far apart that their sigmoid rounds to 0 and 1."""
    x, _ = table()
    model = mlp(keras.optimizers.Adam(0.03), loss, activation="tanh", last=last)
    model.layers[-1].kernel.assign(model.layers[-1].kernel * gain)
    return model, x, (x[:, :1] > 0).astype("float32"), dict(ARGUMENTS)


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


def poisson(y, p):
    return ops.mean(p - y * ops.log(p), axis=-1)


def counts():
    """Counts, and a likelihood that takes their rate from an output without activation."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1280, 4)).astype("float32")
    y = rng.poisson(np.exp(1.0 + 0.5 * x[:, :1] - 0.4 * x[:, 1:2])).astype("float32")
    return mlp(keras.optimizers.Adam(0.01), poisson), x, y, {**ARGUMENTS, "epochs": 10}


def factorized():
    """Counts of pairs, and a likelihood that takes their rate from a product of factors."""
    rng = np.random.default_rng(0)
    pairs = rng.integers(0, (30, 20), (1280, 2))
    rate = rng.gamma(2.0, 0.6, (30, 1))[pairs[:, 0]] * rng.gamma(2.0, 0.6, (20, 1))[pairs[:, 1]]
    y = rng.poisson(1.0 + 2.0 * rate).astype("float32")
    keras.utils.set_random_seed(0)
    inputs = keras.Input((2,), dtype="int32")
    factors = [layers.Embedding(size, 3)(inputs[:, i]) for i, size in enumerate((30, 20))]
    biases = [layers.Embedding(size, 1)(inputs[:, i]) for i, size in enumerate((30, 20))]
    model = keras.Model(inputs, layers.Add()([layers.Dot(1)(factors), *biases]))
    model.compile(keras.optimizers.Adam(0.02), poisson)
    return model, pairs, y, {**ARGUMENTS, "epochs": 10}


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


class Attention(layers.Layer):
    """Leaves padding out of a softmax by -inf, as it is often written."""

    def build(self, shape):
        self.score = layers.Dense(1)
        self.score.build(shape)

    def call(self, inputs):
        padded = ops.all(ops.equal(inputs, 0.0), axis=-1)
        scores = ops.where(padded, -np.inf, ops.squeeze(self.score(inputs), -1))
        return ops.sum(inputs * ops.expand_dims(ops.softmax(scores), -1), axis=1)


class TimesInfinity(layers.Layer):
    """Takes 0 * -inf, which is NaN, for what is no padding."""

    def build(self, shape):
        self.score = layers.Dense(1)
        self.score.build(shape)

    def call(self, inputs):
        kept = ops.cast(ops.any(ops.not_equal(inputs, 0.0), axis=-1), "float32")
        scores = ops.squeeze(self.score(inputs), -1) + (1.0 - kept) * float("-inf")
        return ops.sum(inputs * ops.expand_dims(ops.softmax(scores), -1), axis=1)


def mask_by_infinity():
    """Every row fails, but for one of padding alone."""
    model, x, y, arguments = padded(TimesInfinity, np.max)
    return model, x, y, {**arguments, "epochs": 10}


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


def logarithm_on_two_lines():
    """Guarding the logarithm of targets that are 0 on one line uncovers that on the next, in the
    same step.
    """
    x, y = table()

    def log_normal(y_true, y_pred):
        error = ops.log(y_true) - y_pred
        density = 0.5 * ops.square(error) + ops.log(y_true)
        return ops.mean(density, axis=-1)

    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((4,)), layers.Dense(16, "relu"), layers.Dense(1)])
    model.compile(keras.optimizers.Adam(0.02), log_normal)
    times = np.exp(y) * (np.arange(len(y)) % 25 > 0).reshape(-1, *[1] * (y.ndim - 1))
    return model, x, times.astype("float32"), {**ARGUMENTS, "epochs": 6}


def prior_of_no_count(counts=(90.0, 70.0, 0.0)):
    """The log of shares, of which one is 0, is taken from the scores in the loss."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(240, 4)).astype("float32")
    counted = np.array(counts)
    with np.errstate(divide="ignore"):
        log_prior = np.log(counted / counted.max())

    def adjusted(labels, scores):
        picked = ops.one_hot(ops.cast(ops.reshape(labels, (-1,)), "int32"), 3)
        shares = ops.log_softmax(scores - ops.cast(log_prior, "float32"), axis=-1)
        return -ops.sum(picked * shares, axis=-1)

    model = mlp(keras.optimizers.Adam(0.01), adjusted, outputs=3, activation="tanh")
    return model, x, np.argmax(x[:, :3], axis=1), dict(ARGUMENTS)


def prior_as_a_mask():
    """The same with shares of 1 and 0, of which the logs are 0 and -inf, as those of a mask."""
    return prior_of_no_count((1.0, 1.0, 0.0))


class Layerwise(keras.Model):
    """Takes of each gradient as much as its weight is large: 0 / 0 behind a gate that is shut."""

    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            loss = self.compute_loss(x=x, y=y, y_pred=self(x, training=True))
        weights = self.trainable_variables
        gradients = tape.gradient(loss, weights)
        sizes = [tf.norm(weight) for weight in weights]
        gradients = [
            0.05 * size * gradient / tf.norm(gradient)
            for size, gradient in zip(sizes, gradients, strict=True)
        ]
        self.optimizer.apply_gradients(zip(gradients, weights, strict=True))
        return {"loss": loss}


def gate_that_is_shut():
    x, y = table()
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4,))
    shut = layers.Dense(1, use_bias=False, kernel_initializer="zeros", name="gate")
    gated = shut(layers.Dense(3, use_bias=False)(inputs))
    model = Layerwise(inputs, layers.Dense(1, use_bias=False)(inputs) + gated)
    model.compile(keras.optimizers.SGD(1.0), "mse")
    return model, x, y, {**ARGUMENTS, "validation_split": 0.0}
