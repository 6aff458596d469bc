"""What makes a healthy training look sick: each changes a draft of one."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
from _strange import BlankedHoles, Masked, NanMetric, Overflowing, Shaken, Wild, saved_log
from keras import layers, ops

ROWS = 160


@dataclass
class Draft:
    """A training that is not built yet: what its look of sickness changes."""

    rng: np.random.Generator
    x: np.ndarray
    y: np.ndarray
    body: list[Any]
    units: int = 1
    last: str | None = None
    loss: Any = "mse"
    optimizer: Any = None
    settings: dict[str, Any] = field(default_factory=dict)  # of compile
    arguments: dict[str, Any] = field(default_factory=dict)  # of fit
    policy: str = "float32"
    after: Callable[[Any], None] | None = None  # done to the built model


Look = Callable[[Draft], None]
LOOKS: dict[str, Look] = {}


def look(change: Look) -> Look:
    LOOKS[change.__name__] = change
    return change


def _called(draft: Draft, *callbacks: Any) -> None:
    draft.arguments["callbacks"] = [*draft.arguments.get("callbacks", []), *callbacks]


@look
def cyclic_rate(d):
    top = 10.0 ** d.rng.uniform(-1.5, -0.8)
    _called(d, keras.callbacks.LearningRateScheduler(lambda epoch: top * [1e-4, 1.0, 1e-3][epoch]))


@look
def warm_restarts(d):
    d.optimizer = keras.optimizers.Adam(
        keras.optimizers.schedules.CosineDecayRestarts(10.0 ** d.rng.uniform(-2.5, -1.5), 7)
    )


@look
def spike_that_recovers(d):
    _called(d, Shaken(10.0 ** d.rng.uniform(3, 6)))


@look
def raw_targets(d):
    d.y = d.y * 10.0 ** d.rng.uniform(6, 9)
    d.optimizer = keras.optimizers.Adam(0.01)


@look
def loss_of_1e30(d):
    d.y = d.y * 1e15
    d.optimizer = keras.optimizers.SGD(10.0 ** d.rng.uniform(-5, -4), clipnorm=1e15)


@look
def raw_inputs(d):
    d.x = d.x * 10.0 ** d.rng.uniform(3, 6)
    d.optimizer = keras.optimizers.Adam(1e-4)


@look
def tiny_inputs(d):
    d.x = d.x * np.float32(1e-36)


@look
def dead_units(d):
    d.body.append(
        lambda: layers.Dense(16, "relu", bias_initializer=keras.initializers.Constant(-1e3))
    )


@look
def saturated_units(d):
    d.body.append(
        lambda: layers.Dense(16, "sigmoid", bias_initializer=keras.initializers.Constant(1e3))
    )


@look
def infinite_metric(d):
    d.settings["metrics"] = [Overflowing()]


@look
def undefined_metric(d):
    d.settings["metrics"] = ["mae", NanMetric()]


@look
def holes_masked_inside(d):
    d.x[d.rng.integers(ROWS, size=9), 0] = np.nan
    d.body.insert(0, BlankedHoles)


@look
def infinities_clipped_inside(d):
    d.x[d.rng.integers(ROWS, size=9), 1] = np.inf
    d.body.insert(0, lambda: layers.Lambda(lambda x: ops.clip(x, -5.0, 5.0)))


@look
def missing_targets_masked(d):
    d.y[d.rng.integers(ROWS, size=20)] = np.nan
    d.loss = Masked()


@look
def frozen_layers(d):
    def freeze(model):
        for each in model.layers[:-1]:
            each.trainable = False

    d.after = freeze


@look
def everything_frozen_by_rate(d):
    d.optimizer = keras.optimizers.SGD(0.0)


@look
def overflow_under_loss_scale(d):
    d.policy = "mixed_float16"
    d.optimizer = keras.optimizers.LossScaleOptimizer(
        keras.optimizers.Adam(1e-3), initial_scale=2.0 ** d.rng.integers(20, 40)
    )


@look
def near_overflow_of_half(d):
    d.policy = "mixed_float16"
    d.x = np.clip(d.x, -2.0, 2.0)
    d.body.insert(0, lambda: layers.Rescaling(1e4))
    d.body.insert(1, lambda: layers.Rescaling(1e-4))


@look
def columns_without_variance(d):
    d.x[:, 0] = 0.0
    d.x[:, 1] = 7.0
    d.body.insert(0, layers.BatchNormalization)


@look
def constant_targets(d):
    d.y[:] = d.rng.normal()


@look
def loss_of_zero(d):
    d.y = np.sign(d.y)
    d.loss = lambda y, p: ops.relu(-1e3 - y * p)


@look
def falling_below_zero(d):
    # It has a least value; what falls for ever is called diverged, and rightly so.
    d.loss = lambda y, p: -1e3 * ops.tanh(ops.abs(p))


@look
def rising_as_wanted(d):
    # Overfitted: the validation loss rises.
    d.y = d.rng.normal(size=d.y.shape).astype("float32")
    d.arguments.update(epochs=8, validation_split=0.5)
    d.optimizer = keras.optimizers.Adam(0.05)


@look
def stopped_early(d):
    d.arguments.update(epochs=8, validation_split=0.2)
    _called(
        d,
        keras.callbacks.EarlyStopping(patience=0, restore_best_weights=True),
        keras.callbacks.ReduceLROnPlateau(patience=0, factor=1e-3),
    )


@look
def single_rows(d):
    d.body.insert(0, layers.BatchNormalization)
    d.x, d.y = d.x[:33], d.y[:33]
    d.arguments.update(batch_size=8)
    d.arguments.pop("validation_split", None)


@look
def almost_all_dropped(d):
    d.body.append(lambda: layers.Dropout(0.95))


@look
def loud_noise(d):
    d.body.append(lambda: layers.GaussianNoise(1.0))


@look
def weights_of_nothing(d):
    d.arguments["sample_weight"] = np.zeros(ROWS, "float32")


@look
def weights_that_differ(d):
    d.arguments["sample_weight"] = (10.0 ** d.rng.uniform(-12, 4, ROWS)).astype("float32")


@look
def averaged_weights(d):
    d.optimizer = keras.optimizers.Adam(1e-2, use_ema=True, ema_overwrite_frequency=5)


@look
def accumulated_gradients(d):
    d.optimizer = keras.optimizers.SGD(1e-2, gradient_accumulation_steps=4)


@look
def many_steps_at_once(d):
    d.settings["steps_per_execution"] = 3


@look
def clipped_gradients(d):
    d.y = d.y * 1e6
    d.optimizer = keras.optimizers.SGD(1e-2, clipnorm=1.0)


@look
def heavy_momentum(d):
    d.optimizer = keras.optimizers.SGD(1e-3, momentum=0.99, nesterov=True)


@look
def confident_logits(d):
    d.y = (d.y > 0).astype("float32")
    d.loss = keras.losses.BinaryCrossentropy(from_logits=True)
    d.body.append(lambda: layers.Rescaling(1e4))
    d.optimizer = keras.optimizers.Adam(10.0 ** d.rng.uniform(-4, -3))


@look
def certain_and_wrong(d):
    d.y, d.last, d.loss = (d.y < 0).astype("float32"), "sigmoid", "binary_crossentropy"
    d.body.append(lambda: layers.Rescaling(1e3))
    d.optimizer = keras.optimizers.Adam(10.0 ** d.rng.uniform(-4, -3))


@look
def attention_with_infinite_mask(d):
    d.x = d.rng.normal(size=(ROWS, 6, 4)).astype("float32")
    d.body[:] = [lambda: Masked.Attention(), layers.GlobalAveragePooling1D]


@look
def log_that_is_safe(d):
    d.loss = saved_log


@look
def double_precision(d):
    d.policy = "float64"


@look
def rows_ruled_by_one_class(d):
    d.y, d.last, d.loss = (d.y > 1e9).astype("float32"), "sigmoid", "binary_crossentropy"
    d.arguments["class_weight"] = {0: 1e-6, 1: 1e6}


@look
def weights_thrown_about(d):
    d.arguments["epochs"] = 6
    d.optimizer = keras.optimizers.Adam(0.05)
    _called(d, Wild(d.rng.uniform(5, 50)))


@look
def compiled_by_xla(d):
    d.settings["jit_compile"] = True
    d.y = d.y * 1e4
    d.optimizer = keras.optimizers.Adam(0.1)


@look
def embedding_of_few(d):
    d.x = d.rng.integers(3, size=(ROWS, 1)).astype("int32")
    d.body.insert(0, lambda: layers.Embedding(1000, 8))
    d.body.insert(1, layers.Flatten)


@look
def weights_held_small(d):
    d.body.append(
        lambda: layers.Dense(
            8, "relu", kernel_constraint="unit_norm", kernel_regularizer=keras.regularizers.L2(1e3)
        )
    )
