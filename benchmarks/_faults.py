"""Faults that make a training go non-finite, each with the cause that a diagnosis is to name."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
from _recipes import RECTIFIERS, Recipe
from _undefined import (
    Length,
    Shifted,
    SumOfSquares,
    binary_by_hand,
    inverse_error,
    log_error,
    relative_error,
    root_error,
)
from keras import layers

REGRESSION = {"task": "regression"}
GRADIENT_DESCENT = ("SGD", "SGD", "Adam", "RMSprop")


@dataclass(frozen=True)
class Fault:
    """What is done to a recipe, and the causes by whose name it may go.

    `wanted` says of what is drawn which values it may have; faults that share a slot cannot be
    together. `kept` is what is no fault by itself and stays when the fault is taken away.
    """

    name: str
    causes: frozenset[str]
    put: Callable[[Recipe, np.random.Generator], None]
    slots: frozenset[str]
    kept: Callable[[Recipe, np.random.Generator], None] | None = None
    wanted: dict[str, tuple[Any, ...]] = field(default_factory=dict)


FAULTS: dict[str, Fault] = {}


def fault(causes: str, slots: str, kept: Any = None, **wanted: Any) -> Callable[[Any], Any]:
    """Register a function as the fault of its name."""

    def registered(put: Any) -> Any:
        FAULTS[put.__name__] = Fault(
            put.__name__, frozenset(causes.split()), put, frozenset(slots.split()), kept, wanted
        )
        return put

    return registered


@fault("LEARNING_RATE", "rate", task=("regression",), optimizer=GRADIENT_DESCENT)
def learning_rate(recipe, rng):
    recipe.rate *= 10.0 ** (
        rng.uniform(1.3, 3.0) if recipe.optimizer == "SGD" else rng.uniform(4.0, 7.0)
    )


@fault("UNSCALED_INPUT", "x", task=("regression",), optimizer=("SGD",), kind=("mlp",))
def unscaled_inputs(recipe, rng):
    scale = 10.0 ** rng.uniform(1.5, 4.0, size=recipe.x.shape[-1])
    recipe.x = ((recipe.x + rng.uniform(-2, 2)) * scale).astype("float32")


@fault("UNSCALED_TARGET", "y", task=("regression",), optimizer=("SGD",))
def unscaled_targets(recipe, rng):
    scale = 10.0 ** rng.uniform(2.0, 6.0)
    recipe.y = ((recipe.y + rng.uniform(-3, 3)) * scale).astype("float32")


def _normal(recipe, deviation):
    recipe.kernel = lambda index: keras.initializers.RandomNormal(
        stddev=deviation, seed=recipe.seed + index
    )


UNBOUNDED = {"task": ("regression",), "activation": RECTIFIERS, "optimizer": ("SGD",)}


@fault(
    "BAD_INITIALIZATION", "kernel", kind=("mlp",), depth=(3, 4, 5, 6), width=(32, 64), **UNBOUNDED
)
def wide_normal(recipe, rng):
    _normal(recipe, 10.0 ** rng.uniform(-0.3, 0.3))


@fault("BAD_INITIALIZATION", "kernel", kind=("mlp",), depth=(10, 14, 18), **UNBOUNDED)
def deep_stack(recipe, rng):
    _normal(recipe, rng.uniform(2.2, 4.0) * np.sqrt(2.0 / recipe.width))


@fault("BAD_INITIALIZATION", "kernel", kind=("residual",), **UNBOUNDED)
def growing_residuals(recipe, rng):
    _normal(recipe, rng.uniform(2.0, 4.0) * np.sqrt(2.0 / recipe.width))


@fault(
    "UNSTABLE_RECURRENCE",
    "activation",
    kind=("recurrent",),
    task=("regression",),
    optimizer=("SGD",),
)
def recurrence(recipe, rng):
    recipe.activation = "relu"


@fault("UNSTABLE_ACTIVATION", "activation", kind=("mlp",), task=("regression",), depth=(2, 3, 4))
def exponential(recipe, rng):
    recipe.activation = "exponential"


def one_hot(recipe, rng):
    recipe.y = np.eye(recipe.classes, dtype="float32")[recipe.y]
    recipe.loss = "categorical_crossentropy"


@fault("UNSTABLE_ACTIVATION", "last y", one_hot, task=("multiclass",))
def missing_softmax(recipe, rng):
    one_hot(recipe, rng)
    recipe.last = "relu"


@fault("LOSS_DOMAIN", "loss", task=("regression",))
def loss_outside(recipe, rng):
    recipe.loss = [log_error, root_error, relative_error, inverse_error][rng.integers(4)]
    if recipe.loss is relative_error:
        recipe.y[:: rng.integers(5, 40)] = 0.0
    if recipe.loss is log_error:
        recipe.ruin.append(lambda model: model.layers[-1].bias.assign([-2.9] * 1))


@fault("LOGITS_BY_HAND LOSS_DOMAIN", "loss", task=("binary",))
def log_by_hand(recipe, rng):
    gain = rng.uniform(30.0, 80.0)
    recipe.loss = binary_by_hand
    recipe.ruin.append(lambda model: model.layers[-1].kernel.assign(model.layers[-1].kernel * gain))


@fault("LAYER_DOMAIN EMPTY_REDUCTION", "layer", kind=("mlp", "residual"))
def layer_outside(recipe, rng):
    how = ["log", "root", "share", "exp", "peak"][rng.integers(5)]
    if how in ("share", "peak"):
        recipe.x[rng.integers(len(recipe.x))] = 0.0
    if how in ("log", "root"):
        recipe.activation = "leaky_relu" if recipe.kind == "mlp" else recipe.activation
    (recipe.front if how in ("share", "peak") else recipe.middle).append(lambda: Shifted(how))


@fault("GRADIENT_SINGULARITY", "layer", kind=("mlp", "residual"))
def steep_at_zero(recipe, rng):
    how = ["root", "norm", "power"][rng.integers(3)]
    recipe.x[rng.integers(len(recipe.x), size=3)] = 0.0
    recipe.front.append(lambda: Length(how))


def _holes(recipe, rng, value):
    flat = recipe.x.reshape(len(recipe.x), -1)
    if rng.random() < 0.2:
        flat[:, rng.integers(flat.shape[1])] = value
    else:
        count = rng.integers(1, 12)
        flat[rng.integers(len(flat), size=count), rng.integers(flat.shape[1], size=count)] = value


@fault("NONFINITE_INPUT", "holes")
def nan_inputs(recipe, rng):
    _holes(recipe, rng, np.nan)


@fault("NONFINITE_INPUT", "holes")
def inf_inputs(recipe, rng):
    _holes(recipe, rng, np.inf * rng.choice([-1.0, 1.0]))


@fault("NONFINITE_TARGET", "y-holes", task=("regression", "binary"))
def nan_targets(recipe, rng):
    recipe.y[rng.integers(len(recipe.y), size=rng.integers(1, 10))] = np.nan


@fault("INVALID_LABEL", "y", task=("multiclass",))
def labels_out_of_range(recipe, rng):
    # On a CPU without XLA it is an error and no NaN.
    recipe.compiled = {"jit_compile": True}
    if rng.random() < 0.5:
        recipe.y = recipe.y + 1
    else:
        recipe.y[rng.integers(len(recipe.y), size=4)] = -1


@fault("NONFINITE_WEIGHT", "weights")
def nan_weights(recipe, rng):
    recipe.weights = np.ones(len(recipe.x), "float32")
    recipe.weights[rng.integers(len(recipe.x), size=rng.integers(1, 20))] = np.nan


@fault("OUTLIER", "x-outlier", task=("regression",), kind=("mlp",), optimizer=("SGD",))
def typing_error_in_inputs(recipe, rng):
    recipe.x[rng.integers(len(recipe.x)), rng.integers(recipe.x.shape[1])] = 10.0 ** rng.uniform(
        5, 9
    )


@fault("OUTLIER", "y-outlier", task=("regression",), optimizer=("SGD",))
def typing_error_in_targets(recipe, rng):
    usual = float(np.abs(recipe.y).max())
    recipe.y[rng.integers(len(recipe.y))] = usual * 10.0 ** rng.uniform(4, 8)


def dead_column(recipe, rng):
    recipe.x[:, 0] = 0.0


@fault(
    "OPTIMIZER_CONSTANT",
    "constants",
    dead_column,
    optimizer=("Adam", "RMSprop", "Nadam", "AdamW"),
    kind=("mlp",),
)
def no_epsilon(recipe, rng):
    recipe.constants = {"epsilon": 0.0}
    dead_column(recipe, rng)


@fault("OPTIMIZER_CONSTANT", "constants", optimizer=("Adam", "Nadam", "AdamW"))
def never_fading(recipe, rng):
    recipe.constants = {["beta_1", "beta_2"][rng.integers(2)]: 1.0}


@fault("OPTIMIZER_CONSTANT", "constants rate", task=("regression",), optimizer=("SGD", "Adam"))
def negative_rate(recipe, rng):
    recipe.rate *= -(
        10.0 ** (rng.uniform(1.0, 3.0) if recipe.optimizer == "SGD" else rng.uniform(3, 6))
    )


@fault("OPTIMIZER_CONSTANT", "constants", optimizer=("AdamW",), task=("regression",))
def turning_decay(recipe, rng):
    recipe.constants = {"weight_decay": rng.uniform(5.0, 50.0) / recipe.rate}


def sum_of_squares(recipe, rng):
    recipe.front.append(SumOfSquares)


@fault("REDUCED_PRECISION", "layer", sum_of_squares, kind=("mlp",))
def half_precision(recipe, rng):
    recipe.policy = "mixed_float16"
    sum_of_squares(recipe, rng)


def _batch_normalization(recipe, rng, **epsilon):
    recipe.x[:, rng.integers(recipe.x.shape[1])] = rng.choice([0.0, 1.0, -3.0])
    recipe.front.append(lambda: layers.BatchNormalization(**epsilon))


@fault("BATCH_STATISTICS", "front", kept=_batch_normalization, kind=("mlp",))
def no_variance(recipe, rng):
    _batch_normalization(recipe, rng, epsilon=0.0)


def _normalization(data):
    layer = layers.Normalization(axis=-1)
    layer.adapt(data)
    return layer


def _adapted_normalization(recipe, rng):
    data = recipe.x.copy()
    recipe.front.insert(0, lambda: _normalization(data))  # it knows the columns as given


@fault("RUINED_STATISTICS", "front", kept=_adapted_normalization, kind=("mlp",))
def ruined_normalization(recipe, rng):
    data = recipe.x.copy()
    data[rng.integers(len(data)), rng.integers(data.shape[1])] = np.nan
    recipe.front.insert(0, lambda: _normalization(data))  # it knows the columns as given


@fault("NONFINITE_START", "start")
def nonfinite_weights(recipe, rng):
    value = [np.nan, np.inf, -np.inf][rng.integers(3)]

    def ruin(model):
        bias = np.asarray(model.layers[-1].bias).copy()
        bias[0] = value
        model.layers[-1].bias.assign(bias)

    recipe.ruin.append(ruin)
