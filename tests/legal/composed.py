"""Trainings put together at random: a model x a feed x a way to train x what breaks it,
of parts as in the table.

Not every combination is legal. Keras says which: one that it cannot train on is none.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import pandas as pd
import tensorflow as tf
from hypothesis import strategies as st
from keras import layers

from legal.execution import Keeps, Raises, UsersError, in_a_thread
from legal.inputs import MayLack
from legal.rates import Noam, OwnFields, log_loss
from legal.steps import Annealed, Applies, AppliesGradients, GraphLayer, Net, Tracked
from legal.training import BATCH, ROWS, STEPS, Training, called, mlp, table
from legal.unlabeled import Autoencoder

SOUND = 0.02  # the learning rate of a training that is not to explode


@dataclass(frozen=True)
class Recipe:
    """What a training is made of: of each kind of part, the name of one."""

    model: str
    feed: str
    loss: str
    optimizer: str
    policy: str
    way: str
    validation: str
    callbacks: str
    breaks: str
    strategies: tuple[str, ...]


def towers():
    """Return a model of two named inputs, `left` and `right`, through one shared layer."""
    inputs = {name: keras.Input((2,), name=name) for name in ("left", "right")}
    shared = layers.Dense(4, "tanh")
    return keras.Model(
        inputs, layers.Dense(1)(layers.Concatenate()([shared(it) for it in inputs.values()]))
    )


def outputs():
    inputs = keras.Input((4,))
    hidden = layers.Dense(6, "relu")(inputs)
    return keras.Model(
        inputs, {name: layers.Dense(1, name=name)(hidden) for name in ("first", "second")}
    )


def residual():
    inputs = keras.Input((4,))
    hidden = layers.BatchNormalization()(layers.Dense(4, "relu")(inputs))
    return keras.Model(inputs, layers.Dense(1)(layers.Add()([inputs, layers.Dropout(0.2)(hidden)])))


def sequential(*stack):
    return lambda: keras.Sequential(
        [keras.Input((4,)), *(make() for make in stack), layers.Dense(1)]
    )


MODELS: dict[str, Callable[[], Any]] = {
    "mlp": mlp,
    "relu": lambda: mlp(activation="relu"),
    "probability": sequential(lambda: layers.Dense(4, "tanh"), lambda: layers.Dense(1, "sigmoid")),
    "residual": residual,
    "nested": sequential(mlp, lambda: layers.Dense(3, "gelu")),
    "activations": sequential(
        lambda: layers.Dense(6), layers.LeakyReLU, lambda: layers.Dense(4), layers.Softmax
    ),
    "recurrent": sequential(lambda: layers.Reshape((2, 2)), lambda: layers.LSTM(3)),
    "convolution": sequential(
        lambda: layers.Reshape((4, 1)),
        lambda: layers.Conv1D(3, 2, activation="relu"),
        layers.Flatten,
    ),
    "attention": sequential(
        lambda: layers.Reshape((2, 2)), lambda: layers.GRU(3, return_sequences=True), layers.Flatten
    ),
    "own layer": sequential(MayLack),
    "graph layer": sequential(GraphLayer),
    "towers": towers,
    "outputs": outputs,
    "subclass": Net,
    "applies": Applies,
    "applies gradients": AppliesGradients,
    "annealed": Annealed,
    "tracked": Tracked,
    "autoencoder": Autoencoder,
}


def data(recipe: Recipe, explosive: bool) -> tuple[Any, Any]:
    """Return the inputs and targets that a model takes, as arrays."""
    x, y = table()
    if recipe.loss in ("by hand", "binary_crossentropy"):
        y = (y > 0).astype("float32")
    if explosive:
        x, y = BREAKS[recipe.breaks](x.copy(), y.copy())
    if recipe.policy == "float64":
        x, y = x.astype("float64"), y.astype("float64")
    if recipe.model == "autoencoder":
        return x, None
    if recipe.model == "towers":
        return {"left": x[:, :2], "right": x[:, 2:]}, y
    return x, {"first": y, "second": -y} if recipe.model == "outputs" else y


def _as_they_are(x, y):
    return x, y


def _hole_in_x(x, y):
    x[ROWS // 2, 0] = np.nan
    return x, y


def _infinity_in_x(x, y):
    x[1, 1] = np.inf
    return x, y


def _hole_in_y(x, y):
    y[ROWS // 3] = np.nan
    return x, y


BREAKS: dict[str, Callable[[Any, Any], tuple[Any, Any]]] = {
    "nothing": _as_they_are,
    "high rate": _as_they_are,
    "absurd rate": _as_they_are,
    "hole in x": _hole_in_x,
    "infinity in x": _infinity_in_x,
    "hole in y": _hole_in_y,
    "huge inputs": lambda x, y: (x * 1e18, y),
    "huge targets": lambda x, y: (x, y * 1e20),
}
RATES = {"high rate": 1e4, "absurd rate": 1e30}


def mapped(change, tree):
    return None if tree is None else keras.tree.map_structure(change, tree)


def batches(x, y):
    """Yield the batches of one epoch as streams have them."""
    for begin in range(0, ROWS, BATCH):
        rows = slice(begin, begin + BATCH)
        one, other = mapped(lambda leaf: leaf[rows], x), mapped(lambda leaf: leaf[rows], y)  # noqa: B023
        yield one if y is None else (one, other)


def _endless(x, y):
    while True:
        yield from batches(x, y)


class Batches(keras.utils.PyDataset):
    def __init__(self, x, y, **settings):
        super().__init__(**settings)
        self.drawn = [batch if isinstance(batch, tuple) else (batch,) for batch in batches(x, y)]

    def __len__(self):
        return STEPS

    def __getitem__(self, index):
        return self.drawn[index]


def _slices(x, y):
    return tf.data.Dataset.from_tensor_slices(x if y is None else (x, y))


def _frame(leaf):
    return pd.DataFrame(leaf) if leaf.shape[1] > 1 else pd.Series(leaf[:, 0])


ROWWISE = {"batch_size": BATCH}
FEEDS: dict[str, Callable[[Any, Any], tuple[Any, Any, dict[str, Any]]]] = {
    "arrays": lambda x, y: (x, y, ROWWISE),
    "arrays in order": lambda x, y: (x, y, {**ROWWISE, "shuffle": False}),
    "a short last batch": lambda x, y: (x, y, {"batch_size": 7}),
    "tensors": lambda x, y: (mapped(tf.constant, x), mapped(tf.constant, y), ROWWISE),
    "frames": lambda x, y: (mapped(_frame, x), mapped(_frame, y), ROWWISE),
    "dataset": lambda x, y: (_slices(x, y).batch(BATCH), None, {}),
    "dataset shuffled": lambda x, y: (_slices(x, y).shuffle(ROWS, seed=3).batch(BATCH), None, {}),
    "dataset repeated": lambda x, y: (
        _slices(x, y).batch(BATCH).repeat(),
        None,
        {"steps_per_epoch": 3},
    ),
    "generator": lambda x, y: (_endless(x, y), None, {"steps_per_epoch": STEPS}),
    "pydataset": lambda x, y: (Batches(x, y), None, {}),
}
LOSSES = {
    "mse": "mse",
    "mae": "mae",
    "huber": "huber",
    "binary_crossentropy": "binary_crossentropy",
    "by hand": log_loss,
}
OPTIMIZERS: dict[str, Callable[[float], Any]] = {
    "sgd": keras.optimizers.SGD,
    "momentum": lambda rate: keras.optimizers.SGD(rate, momentum=0.9, nesterov=True),
    "adam": keras.optimizers.Adam,
    "adam without epsilon": lambda rate: keras.optimizers.Adam(rate, epsilon=0.0, amsgrad=True),
    "rmsprop": lambda rate: keras.optimizers.RMSprop(rate, centered=True),
    "adamw": lambda rate: keras.optimizers.AdamW(rate, weight_decay=0.01),
    "lion": keras.optimizers.Lion,
    "clipped": lambda rate: keras.optimizers.SGD(rate, global_clipnorm=1.0),
    "averaged": lambda rate: keras.optimizers.Adam(rate, use_ema=True, ema_overwrite_frequency=3),
    "accumulating": lambda rate: keras.optimizers.SGD(rate, gradient_accumulation_steps=2),
    "loss scale": lambda rate: keras.optimizers.LossScaleOptimizer(
        keras.optimizers.SGD(rate), initial_scale=16.0
    ),
    "decay": lambda rate: keras.optimizers.SGD(
        keras.optimizers.schedules.ExponentialDecay(rate, 3, 0.9)
    ),
    "warm-up": lambda rate: keras.optimizers.Adam(
        keras.optimizers.schedules.CosineDecay(0.0, 8, warmup_target=rate, warmup_steps=4)
    ),
    "noam": lambda rate: keras.optimizers.SGD(Noam(rate)),
    "own schedule": lambda rate: keras.optimizers.SGD(OwnFields(1.0 / rate, 9.0)),
    "callable": lambda rate: keras.optimizers.SGD(lambda: rate),
}
POLICIES = ("float32", "mixed_float16", "mixed_bfloat16", "bfloat16", "float16", "float64")
WAYS: dict[str, dict[str, Any]] = {
    "plain": {},
    "in a thread": {},
    "metrics": {"metrics": ["mae"], "weighted_metrics": ["mse"]},
    "eagerly": {"run_eagerly": True},
    "by XLA": {"jit_compile": True},
    "two an execution": {"steps_per_execution": 2},
    "three an execution": {"steps_per_execution": 3},
}
VALIDATIONS = ("none", "split", "data")
CALLBACKS: dict[str, Callable[[Any], list[Any]]] = {
    "none": lambda x: [],
    "stopping": lambda x: [
        keras.callbacks.ReduceLROnPlateau(monitor="loss", patience=1, min_delta=10.0),
        keras.callbacks.EarlyStopping(monitor="loss", patience=2, restore_best_weights=True),
        keras.callbacks.TerminateOnNaN(),
    ],
    "scheduler": lambda x: [keras.callbacks.LearningRateScheduler(lambda epoch, rate: 0.5 * rate)],
    "keeping": lambda x: [Keeps(x)],
    "raising": lambda x: [Raises()],
}
STRATEGIES = (
    (),
    ("lower-learning-rate",),
    ("scale-inputs", "scale-targets"),
    ("swap-optimizer",),
    ("drop-nonfinite-rows",),
)
RECIPES = st.builds(
    Recipe,
    model=st.sampled_from(sorted(MODELS)),
    feed=st.sampled_from(sorted(FEEDS)),
    loss=st.sampled_from(sorted(LOSSES)),
    optimizer=st.sampled_from(sorted(OPTIMIZERS)),
    policy=st.sampled_from(POLICIES) | st.just("float32"),
    way=st.sampled_from(sorted(WAYS)),
    validation=st.sampled_from(VALIDATIONS),
    callbacks=st.sampled_from(sorted(CALLBACKS)) | st.just("none"),
    breaks=st.sampled_from(sorted(BREAKS)),
    strategies=st.sampled_from(STRATEGIES),
)


def composed(recipe: Recipe) -> Training:
    """Return the training of a recipe. Its explosive form is broken as the recipe says,
    which may be not at all.
    """

    def build(explosive):
        keras.config.set_floatx("float64" if recipe.policy == "float64" else "float32")
        keras.config.set_dtype_policy(recipe.policy)
        model, (x, y) = MODELS[recipe.model](), data(recipe, explosive)
        rate = RATES.get(recipe.breaks, SOUND) if explosive else SOUND
        model.compile(OPTIMIZERS[recipe.optimizer](rate), LOSSES[recipe.loss], **WAYS[recipe.way])
        feed = FEEDS[recipe.feed]
        fed, targets, how = feed(x, y)
        arguments = {"epochs": 3, "verbose": 0, "callbacks": CALLBACKS[recipe.callbacks](x), **how}
        if recipe.validation == "split":
            arguments["validation_split"] = 0.2
        elif recipe.validation == "data":
            held, held_targets, _ = feed(*data(recipe, False))
            arguments["validation_data"] = (held, held_targets) if "batch_size" in how else held
            arguments["validation_steps"] = None if "batch_size" in how else 2
        return model, fed, targets, arguments

    raises, run = (
        (UsersError if recipe.callbacks == "raising" else None),
        in_a_thread if "thread" in recipe.way else called,
    )
    return Training(repr(recipe), build, raises=raises, run=run)
