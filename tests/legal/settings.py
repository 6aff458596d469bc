"""Number formats, optimizers, schedules, ways to execute, callbacks, threads and devices."""

import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

from legal.steps import Net
from legal.training import ARGUMENTS, BATCH, SOUND, STREAMED, compiled, legal, mlp, rate, sgd, table

registered = keras.saving.register_keras_serializable("legal")


def _typed(explosive, dtype, last=None):
    stack = [layers.Dense(6, "tanh", dtype=dtype), layers.Dense(1, dtype=last or dtype)]
    return compiled(keras.Sequential([keras.Input((4,)), *stack]), explosive)


@legal()
def float16(explosive):
    return _typed(explosive, "float16"), *table(), dict(ARGUMENTS)


@legal()
def bfloat16(explosive):
    return _typed(explosive, "bfloat16"), *table(), dict(ARGUMENTS)


@legal()
def float64(explosive):
    x, y = table()
    model = keras.Sequential(
        [
            keras.Input((4,), dtype="float64"),
            *(layers.Dense(n, dtype="float64") for n in (6, 6, 6, 1)),
        ]
    )
    model.compile(keras.optimizers.SGD(1e12 if explosive else SOUND), "mse")
    return model, x.astype("float64"), y.astype("float64"), dict(ARGUMENTS)


@legal()
def float64_globally(explosive):
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    x, y = table()
    model = keras.Sequential(
        [keras.Input((4,)), layers.Dense(6), layers.Dense(6), layers.Dense(6), layers.Dense(1)]
    )
    model.compile(keras.optimizers.SGD(1e12 if explosive else SOUND), "mse")
    return model, x.astype("float64"), y.astype("float64"), dict(ARGUMENTS)


@legal()
def mixed_float16_by_name(explosive):
    return _typed(explosive, "mixed_float16", "float32"), *table(), dict(ARGUMENTS)


@legal(quick=True)
def mixed_float16_globally(explosive):
    keras.config.set_dtype_policy("mixed_float16")
    model = keras.Sequential(
        [keras.Input((4,)), layers.Dense(6, "relu"), layers.Dense(1, dtype="float32")]
    )
    model.compile(keras.optimizers.SGD(1e20 if explosive else SOUND), "mse")
    return model, *table(), dict(ARGUMENTS)


@legal()
def mixed_bfloat16_globally(explosive):
    keras.config.set_dtype_policy("mixed_bfloat16")
    model = keras.Sequential([keras.Input((4,)), layers.Dense(6, "relu"), layers.Dense(1)])
    return compiled(model, explosive), *table(), dict(ARGUMENTS)


@legal()
def scales_its_loss(explosive):
    model = mlp()
    model.compile(keras.optimizers.LossScaleOptimizer(sgd(explosive), initial_scale=8.0), "mse")
    return model, *table(), dict(ARGUMENTS)


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


@legal(ends="REPAIRED")
def executions_of_several_steps(explosive):
    return (
        compiled(mlp(), explosive, steps_per_execution=3),
        *table(),
        {**ARGUMENTS, "validation_split": 0.2},
    )


@legal(ends="REPAIRED")
def compiled_by_xla(explosive):
    return compiled(mlp(), explosive, jit_compile=True), *table(), dict(ARGUMENTS)


@legal(ends="REPAIRED")
def run_eagerly(explosive):
    return compiled(mlp(), explosive, run_eagerly=True), *table(), dict(ARGUMENTS)


@legal(ends="REPAIRED", quick=True)
def call_set_on_the_object(explosive):
    """The user compiles `call` of this one model."""
    model = compiled(Net(), explosive)
    x, y = table()
    model(x[:1])
    model.call = tf.function(model.call)
    return model, x, y, dict(ARGUMENTS)


@legal()
def some_layers_frozen(explosive):
    model = mlp()
    model.layers[0].trainable = False
    return compiled(model, explosive), *table(), dict(ARGUMENTS)


@legal()
def goes_on_training(explosive):
    """A second fit: trained before, and from a later epoch."""
    model, (x, y) = compiled(mlp(), False), table()
    model.fit(x, y, **ARGUMENTS)
    model.optimizer.learning_rate = rate(explosive)
    return model, x, y, {**ARGUMENTS, "initial_epoch": 2, "epochs": 4}


class Keeps(keras.callbacks.Callback):
    """Keeps what it sees: lists in a dict, the data, a plot's worth of numbers."""

    def __init__(self, x):
        super().__init__()
        self.x, self.log, self.ends = x, {"loss": [], "mean": []}, 0

    def on_epoch_end(self, epoch, logs=None):
        self.log["loss"].append(float(logs["loss"]))
        self.log["mean"].append(float(np.mean(self.model.predict(self.x, verbose=0))))

    def on_train_end(self, logs=None):
        self.ends += 1


@legal(ends="REPAIRED", quick=True)
def callback_that_keeps_data(explosive):
    x, y = table()
    return compiled(mlp(), explosive), x, y, {**ARGUMENTS, "callbacks": [Keeps(x)]}


class UsersError(Exception):
    """The user's own."""


class Raises(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        if epoch == 1:
            raise UsersError("as the user wants it")


@legal(raises=UsersError, quick=True)
def callback_that_raises(explosive):
    x, y = table()
    return compiled(mlp(), explosive), x, y, {**ARGUMENTS, "callbacks": [Raises()]}


class Saves(keras.callbacks.Callback):
    """Saves the model itself, as W&B and others do, and loads the last file when the
    training ends.
    """

    def __init__(self, x):
        super().__init__()
        self.x, self.predicts = x, []

    def on_train_begin(self, logs=None):
        self.folder = tempfile.mkdtemp()

    def on_epoch_end(self, epoch, logs=None):
        self.model.save(f"{self.folder}/model.keras")

    def on_train_end(self, logs=None):
        loaded = keras.models.load_model(f"{self.folder}/model.keras")
        shutil.rmtree(self.folder)
        self.folder = None
        self.predicts = loaded.predict(self.x, verbose=0).tolist()
        assert np.isfinite(self.predicts).all(), (
            "the file that was saved last predicts non-finite values"
        )


@legal(ends="REPAIRED", quick=True)
def callback_that_saves(explosive):
    x, y = table()
    return compiled(mlp(), explosive), x, y, {**ARGUMENTS, "callbacks": [Saves(x)]}


def in_a_thread(fit, model, x, y, arguments):
    """Call fit in a thread of its own; return what it returns, raise what it raises."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(fit, model, x, y, **arguments).result()


def two_at_once(fit, model, x, y, arguments):
    """Train the model and a twin of it, each in a thread; return what the first fit returns, and
    see that both trained alike.
    """
    twin = keras.models.clone_model(model)
    twin.compile(keras.optimizers.SGD.from_config(model.optimizer.get_config()), model.loss)
    twin.set_weights(model.get_weights())
    with ThreadPoolExecutor(2) as threads:
        first, second = (threads.submit(fit, one, x, y, **arguments) for one in (model, twin))
        result, other = first.result(), second.result()
    assert type(result) is type(other) and getattr(result, "outcome", None) is getattr(
        other, "outcome", None
    )
    if getattr(result, "fix", None) is None:
        for one, alike in zip(model.get_weights(), twin.get_weights(), strict=True):
            np.testing.assert_array_equal(one, alike)
    assert all(np.isfinite(weight).all() for weight in twin.get_weights()) or not hasattr(
        other, "outcome"
    )
    return result


@legal(ends="REPAIRED", run=two_at_once, quick=True)
def two_fits_at_once(explosive):
    return compiled(mlp(), explosive), *table(), {**ARGUMENTS, "shuffle": False}


@legal(ends="REPAIRED", run=in_a_thread)
def fit_in_a_thread(explosive):
    return compiled(mlp(), explosive), *table(), {**ARGUMENTS, "shuffle": False}


def _mirrored(explosive, **settings):
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    with strategy.scope():
        model = compiled(mlp(), explosive, **settings)
    return model, *table(), dict(ARGUMENTS)


@legal(devices=2)
def mirrored(explosive):
    return _mirrored(explosive)


@legal(devices=2)
def mirrored_stream(explosive):
    model, x, y, _ = _mirrored(explosive, metrics=["mae"])
    stream = tf.data.Dataset.from_tensor_slices((x, y)).batch(BATCH).repeat()
    return model, stream, None, {**STREAMED, "steps_per_epoch": 4}
