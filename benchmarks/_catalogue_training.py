"""Runs for want of another optimizer, schedule, initial weights, activations or precision."""

import math

import keras
import numpy as np
import tensorflow as tf
from _catalogue import ANY_KIND, BATCH, EPOCHS, ROWS, TRAINED, Judge, of_faults, remedy, split
from _faults import FAULTS
from keras import layers, ops
from sklearn.metrics import roc_auc_score

REGRESSION = ("regression",)
DESCENT = {"task": REGRESSION, "optimizer": ("SGD",)}
STEPS = TRAINED // BATCH  # of an epoch

of_faults("lower-learning-rate", "learning_rate", kind=("mlp", "residual", "convolutional"))
of_faults("reinitialize", "wide_normal", "deep_stack", "growing_residuals")
of_faults("bound-recurrent", "recurrence")
of_faults("swap-activation", "exponential", "missing_softmax")
of_faults("replace-nonfinite-weights", "nonfinite_weights", kind=ANY_KIND)
of_faults("sane-constants", "no_epsilon", "never_fading", "turning_decay", "no_variance")
of_faults("raise-precision", "half_precision")
of_faults("readapt-normalization", "ruined_normalization")


def typing_errors(recipe, rng, share, low, high):
    """Make a share of the targets wrong by powers of ten."""
    rows = rng.choice(TRAINED, size=max(2, int(share * TRAINED)), replace=False)
    signs = rng.choice([-1.0, 1.0], size=(len(rows), 1))
    recipe.y[rows] = signs * 10.0 ** rng.uniform(low, high, size=(len(rows), 1))


@remedy("clip-gradients", kind=("mlp", "convolutional"), **DESCENT)
def wrong_targets(whole, rng):
    typing_errors(whole, rng, 0.01, 3.0, 5.0)
    run = split(whole)
    run.expert.constants = {"global_clipnorm": 1.0}
    return run


@remedy("clip-gradients", kind=("recurrent",), cell=("SimpleRNN",), **DESCENT)
def exploding_through_time(whole, rng):
    whole.activation, whole.rate = "relu", rng.uniform(0.05, 0.1)
    whole.feedback = rng.uniform(1.0, 1.15)
    run = split(whole)
    run.expert.constants = {"global_clipnorm": 1.0}
    return run


@remedy("adaptive-clip", kind=("mlp", "convolutional"), **DESCENT)
def spikes(whole, rng):
    typing_errors(whole, rng, 0.03, 4.0, 5.0)
    run = split(whole)
    run.expert.constants = {"global_clipnorm": 1.0}
    return run


@remedy("robust-loss", kind=("mlp", "convolutional"), **DESCENT)
def wild_targets(whole, rng):
    typing_errors(whole, rng, 0.03, 4.0, 6.0)
    run = split(whole)
    run.expert.loss = keras.losses.Huber(1.0)
    return run


@remedy("swap-optimizer", task=REGRESSION, optimizer=("SGD", "RMSprop"))
def columns_of_several_sizes(whole, rng):
    """No one rate suits all columns."""
    whole.x = (whole.x * 10.0 ** rng.uniform(-0.5, 1.0, size=whole.x.shape[-1])).astype("float32")
    whole.rate *= 10.0 ** (rng.uniform(0.7, 1.5) if whole.optimizer == "SGD" else 5.0)
    run = split(whole)
    run.expert.optimizer, run.expert.rate = "Adam", 0.01
    return run


@remedy("swap-optimizer", task=REGRESSION, optimizer=("SGD",), kind=("convolutional", "recurrent"))
def momentum_of_a_guide(whole, rng):
    """0.9 of momentum makes ten of one step."""
    whole.constants = {"momentum": 0.9, "nesterov": bool(rng.integers(2))}
    whole.rate *= 10.0 ** rng.uniform(0.7, 1.5)
    run = split(whole)
    run.expert.optimizer, run.expert.rate, run.expert.constants = "Adam", 0.01, {}
    return run


@remedy("warm-up-learning-rate", activation=("elu", "relu"), **DESCENT)
def far_from_the_targets(whole, rng):
    """The first errors, and so the first steps, are many times what they are later."""
    whole.y = whole.y + np.float32(rng.uniform(20.0, 40.0))
    run = split(whole)
    steps = 4 * STEPS
    run.expert.rate = keras.optimizers.schedules.PolynomialDecay(
        whole.rate / steps, steps, end_learning_rate=whole.rate
    )
    return run


@remedy("add-normalization", depth=(4, 5, 6), width=(32, 64), activation=("relu",), **DESCENT)
def wide_weights(whole, rng):
    FAULTS["wide_normal"].put(whole, rng)
    run = split(whole)
    run.expert.middle, run.expert.throughout = [layers.LayerNormalization], True
    return run


def wasserstein(y_true, y_pred):
    return -ops.mean(y_true * y_pred, axis=-1)


@remedy("constrain-weights", task=("binary",), optimizer=("SGD",), depth=(2, 3))
def critic(whole, rng):
    """Its loss falls for as long as its weights grow, and knows an order of the rows, but no 0."""
    whole.y, whole.loss, whole.last = 2.0 * whole.y - 1.0, wasserstein, None
    whole.rate = rng.uniform(0.1, 0.3)
    run = split(whole)
    run.judge = Judge("auc", lambda y, p: float(roc_auc_score(y > 0, np.nan_to_num(p))))

    def bound(model):
        for layer in [*model.layers, *getattr(model.layers[0], "layers", [])]:
            if isinstance(layer, layers.Dense):
                layer.kernel.constraint = layer.bias.constraint = keras.constraints.MaxNorm(3.0)

    run.expert.ruin.append(bound)
    return run


@remedy("floor-probabilities", task=("multiclass",), optimizer=("SGD",), depth=(2, 3))
def advantages(whole, rng):
    """What single moves have brought, less the mean, is learned as if it were their labels."""
    classes = whole.classes
    best = np.eye(classes)[whole.y] if whole.y.ndim == 1 else whole.y
    moves = np.eye(classes)[rng.integers(0, classes, len(best))]
    gains = np.sum(moves * best, axis=-1) - 1.0 / classes + rng.normal(0.0, 0.1, len(best))
    scale = rng.uniform(20.0, 60.0)
    whole.y, whole.last = np.float32(scale * gains[:, None] * moves), "softmax"
    whole.loss, whole.rate = "categorical_crossentropy", rng.uniform(0.004, 0.012)
    whole.arguments["epochs"] = 3 * EPOCHS  # it falls for a while first
    run = split(whole)
    run.y = best[ROWS:].argmax(axis=1)
    run.expert.loss = floored
    return run


def floored(y_true, y_pred):
    """The log of the probability of a move to be punished, no lower than that of 2 %."""
    logs = ops.log(ops.clip(y_pred, 1e-7, 1.0))
    kept = ops.where(y_true < 0, ops.maximum(logs, math.log(0.02)), logs)
    return -ops.sum(y_true * kept, axis=-1)


@remedy("reset-moments", kind=("mlp", "convolutional"), **DESCENT)
def second_fold(whole, rng):
    """Between two trainings the weights are set back, the optimizer is not."""
    whole.constants = {"momentum": 0.9}
    whole.rate *= 0.3
    run = split(whole)
    scale = 10.0 ** rng.uniform(4.0, 5.0)
    x, y = whole.x[:16], whole.y[:16] * scale

    def trained_before(model):
        initial = model.get_weights()
        model.fit(x, y, epochs=1, batch_size=16, verbose=0)
        model.set_weights(initial)

    run.plain.after.append(trained_before)
    return run


@remedy("finite-learning-rate", kind=ANY_KIND)
def rate_of_a_callback(whole, rng):
    run = split(whole)
    first, power = int(rng.integers(2, 5)), rng.uniform(0.2, 0.6)

    def decayed(epoch):
        return whole.rate * (1.0 - epoch / first) ** power if epoch <= first else math.nan

    def kept(epoch):
        return whole.rate * (1.0 - min(epoch, first - 1) / first) ** power

    for recipe, rate in ((run.plain, decayed), (run.expert, kept)):
        recipe.arguments["callbacks"] = [keras.callbacks.LearningRateScheduler(rate)]
    return run


@remedy("raise-epsilon", optimizer=("Adam", "Nadam"), activation=("relu", "tanh"))
def epsilon_of_another_framework(whole, rng):
    """1e-8 is 0 in float16, and so is the gradient of a column that is always 0."""
    whole.policy, whole.constants = "float16", {"epsilon": 1e-8}
    whole.arguments["epochs"] = 16
    whole.x = np.pad(whole.x, ((0, 0), (0, 1)))
    run = split(whole)
    run.expert.constants = {"epsilon": 1e-4}
    return run


def thousands(z):
    return 3e4 * z


@remedy(
    "loss-scale",
    kind=("mlp", "convolutional"),
    task=REGRESSION,
    activation=("tanh",),
    optimizer=("Adam", "RMSprop"),
)
def gradient_beyond_half_precision(whole, rng):
    whole.policy, whole.last = "mixed_float16", thousands
    whole.y = 3e4 * whole.y
    run = split(whole)
    # Keras' own default, which some turn off.
    run.plain.compiled = {"auto_scale_loss": False}
    return run


class Memberships(layers.Layer):
    """How near each row is to some centers, as shares of 1."""

    def build(self, shape):
        start = keras.initializers.RandomNormal(0.0, 1.0, seed=3)
        self.centers = self.add_weight(shape=(8, shape[-1]), initializer=start)

    def call(self, x):
        near = ops.exp(-ops.sum(ops.square(x[:, None] - self.centers), axis=-1))
        return near / ops.sum(near, axis=-1, keepdims=True)


@remedy("turn-off-jit", task=REGRESSION, optimizer=("Adam",), depth=(1, 2))
def compiled_otherwise(whole, rng):
    """XLA makes a / (b * b) of a / b / b, and b * b is 0."""
    whole.x = rng.normal(size=(len(whole.x), int(rng.integers(20, 28)))).astype("float32")
    whole.y = np.tanh(whole.x[:, :1] + whole.x[:, 1:2])
    whole.front.append(Memberships)
    whole.rate, whole.arguments["epochs"] = 0.03, 16
    run = split(whole)
    run.plain.compiled = {"jit_compile": True}
    return run


def glitching(steps):
    """Return a squared error that is NaN at some steps, for no reason that comes again."""
    count = iter(range(1 << 30))

    def glitch():
        return np.float32(np.nan if next(count) in steps else 1.0)

    def loss(y_true, y_pred):
        squared = ops.mean(ops.square(y_true - y_pred), axis=-1)
        return squared * tf.ensure_shape(tf.py_function(glitch, [], tf.float32), ())

    return loss


@remedy("skip-nonfinite-steps", task=REGRESSION, kind=ANY_KIND)
def glitches(whole, rng):
    run = split(whole)
    steps = frozenset(rng.integers(4, 4 * STEPS, size=rng.integers(1, 3)).tolist())
    run.plain.after.append(lambda model: model.compile(model.optimizer, glitching(steps)))

    def skipping(model):
        # It leaves out steps whose gradient is not finite, in any precision.
        optimizer = keras.optimizers.LossScaleOptimizer(model.optimizer, initial_scale=1.0)
        model.compile(optimizer, glitching(steps))

    run.expert.after.append(skipping)
    return run
