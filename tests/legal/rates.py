"""Optimizers and schedules; data and losses that explode at a usual rate."""

import keras
import tensorflow as tf
from keras import layers, ops

from legal.training import ARGUMENTS, SOUND, compiled, legal, mlp, rate, table

registered = keras.saving.register_keras_serializable("legal")


def _scheduled(schedule, **settings):
    model = mlp()
    model.compile(keras.optimizers.SGD(schedule, **settings), "mse")
    return model, *table(), dict(ARGUMENTS)


@legal(ends="REPAIRED")
def decaying_schedule(explosive):
    return _scheduled(
        keras.optimizers.schedules.ExponentialDecay(rate(explosive), 3, 0.9), momentum=0.5
    )


@legal(quick=True)
def late_explosion(explosive):
    return _scheduled(
        keras.optimizers.schedules.PiecewiseConstantDecay(
            [6], [SOUND, 1e12 if explosive else SOUND]
        ),
        momentum=0.9,
    )


@legal(
    ends="REPAIRED",
)
def warm_up_from_zero(explosive):
    return _scheduled(
        keras.optimizers.schedules.CosineDecay(
            0.0, 10, warmup_target=rate(explosive), warmup_steps=4
        )
    )


class Noam(keras.optimizers.schedules.LearningRateSchedule):
    """TensorFlow's Transformer tutorial: warm-up, then decay, and no get_config."""

    def __init__(self, scale):
        self.scale = scale

    def __call__(self, step):
        step = tf.cast(step + 1, tf.float32)
        return self.scale * tf.minimum(tf.math.rsqrt(step), step * 4.0**-1.5)


@legal(ends="REPAIRED", saves=False, quick=True)
def schedule_without_config(explosive):
    return _scheduled(Noam(rate(explosive)))


@registered
class OwnFields(keras.optimizers.schedules.LearningRateSchedule):
    """A schedule with get_config, whose fields are none that nanfix could know."""

    def __init__(self, d_model, half):
        self.d_model, self.half = d_model, half

    def __call__(self, step):
        return (1.0 / self.d_model) * 0.5 ** (tf.cast(step, tf.float32) / self.half)

    def get_config(self):
        return {"d_model": self.d_model, "half": self.half}


@legal(loads_alone=False)
def schedule_with_own_fields(explosive):
    return _scheduled(OwnFields(1.0 / rate(explosive), 20.0))


@legal(ends="REPAIRED", saves=False, quick=True)
def callable_rate(explosive):
    high = rate(explosive)
    return _scheduled(lambda: high)


@legal()
def schedule_callback(explosive):
    high = 1e12 if explosive else SOUND
    model, x, y, arguments = compiled(mlp(), False), *table(), dict(ARGUMENTS)
    decay = keras.callbacks.LearningRateScheduler(lambda epoch, now: SOUND if epoch == 0 else high)
    return model, x, y, {**arguments, "callbacks": [decay]}


@legal()
def plateau_and_early_stopping(explosive):
    x, y = table()
    callbacks = [
        keras.callbacks.ReduceLROnPlateau(monitor="val_loss", patience=1, min_delta=10.0),
        keras.callbacks.EarlyStopping(
            monitor="val_loss", patience=2, min_delta=10.0, restore_best_weights=True
        ),
    ]
    return (
        compiled(mlp(), explosive),
        x,
        y,
        {**ARGUMENTS, "epochs": 4, "validation_split": 0.2, "callbacks": callbacks},
    )


@legal()
def accumulated_and_averaged(explosive):
    model = mlp()
    rate = 1e10 if explosive else SOUND
    model.compile(
        keras.optimizers.SGD(
            rate, gradient_accumulation_steps=2, use_ema=True, ema_overwrite_frequency=4
        ),
        "mse",
    )
    return model, *table(), dict(ARGUMENTS)


@legal()
def weight_decay(explosive):
    model = mlp()
    model.compile(keras.optimizers.AdamW(1e30 if explosive else 0.01, weight_decay=0.01), "mse")
    return model, *table(), dict(ARGUMENTS)


@legal()
def clipped(explosive):
    model = mlp()
    model.compile(keras.optimizers.SGD(1e30 if explosive else SOUND, clipnorm=1.0), "mse")
    return model, *table(), dict(ARGUMENTS)


@legal()
def adam_without_epsilon(explosive):
    model = mlp(activation="relu")
    model.compile(keras.optimizers.Adam(0.01, epsilon=0.0 if explosive else 1e-7), "mse")
    x, y = table()
    x[:, 3] = 0.0
    return model, x, y, dict(ARGUMENTS)


@legal()
def unscaled(explosive):
    x, y = table()
    return (
        compiled(mlp(activation="relu"), False),
        x * (3000.0 if explosive else 1.0),
        y * (1e5 if explosive else 1.0),
        dict(ARGUMENTS),
    )


def log_loss(y, p):
    return -ops.mean(y * ops.log(p) + (1 - y) * ops.log(1 - p), axis=-1)


@legal()
def crossentropy_by_hand(explosive):
    model = keras.Sequential(
        [keras.Input((4,)), layers.Dense(6, "relu"), layers.Dense(1, "sigmoid")]
    )
    x, y = table()
    return (
        compiled(model, False, log_loss),
        x * (1e5 if explosive else 1.0),
        (y > 0).astype("float32"),
        dict(ARGUMENTS),
    )
