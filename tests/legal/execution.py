"""Ways to execute: compiled and not, callbacks, threads and devices."""

import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import tensorflow as tf

from legal.steps import Net
from legal.training import ARGUMENTS, BATCH, STREAMED, compiled, legal, mlp, rate, table


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
