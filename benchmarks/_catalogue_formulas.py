"""Runs for want of a stable formula, or of outputs in the domain of their loss."""

from functools import partial

import keras
import numpy as np
from _catalogue import ANY_KIND, ROWS, Judge, binary_accuracy, remedy, split
from _undefined import Length, Shifted, binary_by_hand, relative_error
from keras import layers, ops

REGRESSION = ("regression",)
TINY = 1e-12


BOLD = {"optimizer": ("Adam",), "activation": ("tanh", "elu"), "depth": (1, 2)}


def _surer(whole, rng):
    """Let a model grow so sure of its classes that shares round to 0 and 1."""
    whole.rate, whole.arguments["epochs"] = 10.0 ** rng.uniform(-1.2, -0.6), 12


@remedy("logits-loss", task=("binary",), **BOLD)
def binary_crossentropy_by_hand(whole, rng):
    whole.loss = binary_by_hand
    _surer(whole, rng)
    run = split(whole)
    run.expert.last, run.expert.loss = None, keras.losses.BinaryCrossentropy(from_logits=True)
    run.undo = lambda logits: logits > 0.0
    return run


def crossentropy_by_hand(y_true, y_pred):
    return -ops.mean(ops.sum(y_true * ops.log(y_pred), axis=-1))


@remedy("logits-loss", task=("multiclass",), **BOLD)
def classes_by_hand(whole, rng):
    _one_hot(whole)
    whole.loss = crossentropy_by_hand
    _surer(whole, rng)
    run = split(whole)
    run.expert.last = None
    run.expert.loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    return run


def _one_hot(whole):
    whole.y = np.eye(whole.classes, dtype="float32")[whole.y]


def log_of_softmax(y_true, y_pred):
    return -ops.sum(y_true * ops.log(ops.softmax(y_pred, axis=-1)), axis=-1)


@remedy("rewrite-stably", task=("multiclass",), **BOLD)
def shares_by_hand(whole, rng):
    _one_hot(whole)
    whole.last, whole.loss = None, log_of_softmax
    _surer(whole, rng)
    run = split(whole)
    run.expert.loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    return run


def log_cosh(y_true, y_pred):
    return ops.mean(ops.log(ops.cosh(y_true - y_pred)), axis=-1)


@remedy("rewrite-stably", task=REGRESSION, kind=("mlp", "convolutional"))
def log_cosh_by_hand(whole, rng):
    """A loss that bears targets far outside, and overflows on them."""
    rows = rng.choice(ROWS, size=rng.integers(4, 12), replace=False)
    run = split(whole)
    far = rng.choice([-1.0, 1.0], size=(len(rows), 1)) * rng.uniform(100, 400, size=(len(rows), 1))
    run.plain.y[rows] = run.expert.y[rows] = far
    run.plain.loss, run.expert.loss = log_cosh, keras.losses.LogCosh()
    return run


def log_sigmoids(y_true, y_pred):
    share = ops.sigmoid(y_pred)
    return -ops.mean(y_true * ops.log(share) + (1.0 - y_true) * ops.log(1.0 - share), axis=-1)


@remedy("rewrite-stably", task=("binary",), **BOLD)
def log_of_sigmoid(whole, rng):
    whole.last, whole.loss = None, log_sigmoids
    _surer(whole, rng)
    run = split(whole)
    run.expert.loss = keras.losses.BinaryCrossentropy(from_logits=True)
    run.judge = Judge("accuracy", partial(binary_accuracy, threshold=0.0))
    return run


def of_an_interval(y_true, y_pred):
    """The likelihood of a time that is counted in whole units, of which there are many."""
    scale = 1e7 * ops.exp(y_pred)
    return -ops.log(ops.exp(-y_true / scale) - ops.exp(-(y_true + 1.0) / scale))


def in_double(y_true, y_pred):
    loss = of_an_interval(ops.cast(y_true, "float64"), ops.cast(y_pred, "float64"))
    return ops.cast(loss, "float32")


def _explained(times, predicted):
    """Return the square of the correlation of predictions with the logarithms of times."""
    if not np.ptp(predicted):
        return 0.0
    return float(np.corrcoef(np.log(times[:, 0] + 1.0), predicted[:, 0])[0, 1] ** 2)


@remedy("raise-loss-precision", task=REGRESSION, **BOLD)
def long_times(whole, rng):
    times = np.exp(rng.uniform(16.0, 18.0) + 0.7 * whole.y) * rng.weibull(4.0, whole.y.shape)
    whole.y, whole.loss = np.floor(times).astype("float32"), of_an_interval
    whole.rate = 10.0 ** rng.uniform(-2.5, -2.0)
    run = split(whole)
    run.expert.loss, run.judge = in_double, Judge("r2", _explained)
    return run


WIDTH = 0.3  # of each of the two parts of a mixture


def mixture_by_hand(y_true, y_pred):
    parts = ops.exp(-0.5 * ops.square((y_true - y_pred) / WIDTH))
    return -ops.log(ops.mean(parts, axis=-1))


def mixture(y_true, y_pred):
    powers = -0.5 * ops.square((y_true - y_pred) / WIDTH)
    return -ops.logsumexp(powers, axis=-1) + np.log(2.0)


@remedy("rewrite-stably", task=REGRESSION, kind=("mlp", "convolutional"))
def mixture_of_two(whole, rng):
    """Of each target nobody knows which sign it has."""
    signs = rng.choice([-1.0, 1.0], size=whole.y.shape)
    noise = WIDTH * rng.normal(size=whole.y.shape)
    whole.y = (signs * (3.0 * whole.y + 4.0) + noise).astype("float32")
    whole.units, whole.loss = 2, mixture_by_hand
    run = split(whole)
    run.expert.loss = mixture
    run.judge = Judge("loss", lambda y, p: float(np.mean(mixture(y, p))))
    return run


def poisson(y_true, y_pred):
    return ops.mean(y_pred - y_true * ops.log(y_pred), axis=-1)


def exponential(y_true, y_pred):
    return ops.mean(ops.log(y_pred) + y_true / y_pred, axis=-1)


def logarithmic(y_true, y_pred):
    return ops.mean(ops.square(ops.log(1.0 + y_true) - ops.log(1.0 + y_pred)), axis=-1)


def _of_positive(whole, loss, drawn):
    """Let a loss take the logarithm of an output without activation."""
    whole.y = drawn(np.exp(1.0 + 0.7 * whole.y)).astype("float32")
    whole.loss, whole.last = loss, None
    run = split(whole)
    run.expert.last = "softplus"
    run.judge = Judge("loss", lambda y, p: float(np.mean(loss(y.astype("float64"), p))))
    return run


@remedy("constrain-outputs", task=REGRESSION, kind=ANY_KIND)
def counts(whole, rng):
    return _of_positive(whole, poisson, rng.poisson)


@remedy("constrain-outputs", task=REGRESSION, kind=ANY_KIND)
def times_of_waiting(whole, rng):
    return _of_positive(whole, exponential, lambda mean: mean * rng.exponential(size=mean.shape))


@remedy("constrain-outputs", task=REGRESSION)
def logarithms_of_sales(whole, rng):
    run = _of_positive(whole, logarithmic, lambda mean: mean)
    for recipe in (run.plain, run.expert):
        recipe.ruin.append(lambda model: model.layers[-1].bias.assign([-0.9]))
    return run


class SafelyShifted(Shifted):
    """The same, held inside its domain by hand."""

    def call(self, inputs):
        if self.how == "log":
            return ops.log(ops.maximum(inputs + 1.0, 1e-3))
        if self.how == "root":
            return ops.sqrt(ops.maximum(inputs + 0.5, 1e-3))
        if self.how == "share":
            total = ops.sum(ops.maximum(inputs, 0.0), axis=-1, keepdims=True)
            return ops.divide_no_nan(inputs, total)
        return ops.divide_no_nan(inputs, ops.max(ops.abs(inputs), axis=-1, keepdims=True))


@remedy("guard-unsafe-operations", activation=("leaky_relu",))
def layer_outside(whole, rng):
    how = ["log", "root", "peak"][rng.integers(3)]
    run = split(whole)
    for recipe, kind in ((run.plain, Shifted), (run.expert, SafelyShifted)):
        if how == "peak":
            recipe.x[:: rng.integers(40, 90)] = 0.0
        (recipe.front if how == "peak" else recipe.middle).append(partial(kind, how))
    return run


class Spread(layers.Layer):
    """Divides by a deviation, or weighs with a logarithm, of weights that are taken as they are."""

    def __init__(self, how, start, **kwargs):
        super().__init__(**kwargs)
        self.how, self.start = how, start

    def build(self, shape):
        start = keras.initializers.Constant(self.inverse(self.start))
        self.variance = self.add_weight(name="variance", shape=shape[-1:], initializer=start)

    def inverse(self, start):
        return start

    def positive(self):
        return self.variance

    def call(self, inputs):
        if self.how == "root":
            return inputs / ops.sqrt(self.positive())
        return inputs * ops.log(self.positive())


class SafeSpread(Spread):
    """The same of a softplus of the weights."""

    def inverse(self, start):
        return np.log(np.expm1(start))

    def positive(self):
        return ops.softplus(self.variance)


@remedy("keep-weights-positive", activation=("tanh", "elu", "relu"), depth=(1, 2))
def variance_of_weights(whole, rng):
    how, start = ["root", "log"][rng.integers(2)], rng.uniform(0.1, 0.3)
    whole.rate *= rng.uniform(4.0, 10.0)
    run = split(whole)
    for recipe, kind in ((run.plain, Spread), (run.expert, SafeSpread)):
        recipe.middle.append(partial(kind, how, start))
    return run


class SafeLength(Length):
    """The same with an epsilon inside the root."""

    def call(self, inputs):
        squares = ops.square(self.project(inputs))
        if self.how == "power":
            length = ops.sum(ops.power(squares + TINY, 0.25), axis=-1, keepdims=True)
        else:
            length = ops.sqrt(ops.sum(squares, axis=-1, keepdims=True) + TINY)
        return ops.concatenate([inputs, length], axis=-1)


@remedy("guard-unsafe-operations")
def steep_at_zero(whole, rng):
    how = ["root", "norm", "power"][rng.integers(3)]
    whole.x[rng.integers(ROWS // 2, size=3)] = 0.0
    run = split(whole)
    run.plain.front.append(partial(Length, how))
    run.expert.front.append(partial(SafeLength, how))
    return run


def bounded_relative_error(y_true, y_pred):
    return ops.mean(ops.square(ops.divide_no_nan(y_true - y_pred, y_true)), axis=-1)


@remedy("guard-unsafe-operations", task=REGRESSION)
def share_of_nothing(whole, rng):
    whole.y = np.exp(0.5 * whole.y)
    run = split(whole)
    for recipe, loss in ((run.plain, relative_error), (run.expert, bounded_relative_error)):
        recipe.y[:: 40 + len(whole.x) % 7], recipe.loss = 0.0, loss
    return run


@remedy("replace-nonfinite-constants", task=("multiclass",))
def prior_of_no_count(whole, rng):
    """The log of shares, of which one is 0, is taken from the scores in the loss."""
    counted = np.bincount(whole.y[:ROWS], minlength=whole.classes).astype("float64")
    counted[rng.integers(whole.classes)] = 0.0
    whole.last = None
    run = split(whole)
    for recipe, counts in ((run.plain, counted), (run.expert, np.maximum(counted, 1.0))):
        with np.errstate(divide="ignore"):
            recipe.loss = _adjusted(np.log(counts / counts.max()), whole.classes)
    return run


def _adjusted(log_prior, classes):
    def adjusted(labels, scores):
        picked = ops.one_hot(ops.cast(ops.reshape(labels, (-1,)), "int32"), classes)
        shares = ops.log_softmax(scores - ops.cast(log_prior, "float32"), axis=-1)
        return -ops.sum(picked * shares, axis=-1)

    return adjusted


class Standardized(layers.Layer):
    """Subtracts means that were taken before."""

    def __init__(self, means):
        super().__init__()
        self.means = ops.convert_to_tensor(means)

    def call(self, inputs):
        return inputs - self.means


@remedy("replace-nonfinite-constants")
def mean_with_a_hole(whole, rng):
    run = split(whole)
    means = run.plain.x.mean(axis=0)
    holed = means.copy()
    holed[rng.integers(len(means))] = np.nan
    run.plain.front.append(lambda: Standardized(holed))
    run.expert.front.append(lambda: Standardized(means))
    return run
