"""Run by test_modes.py in a process of its own: training on two replicas, which have to be named before TensorFlow starts."""

import json

import explosions
import keras
import numpy as np
import tensorflow as tf
from test_modes import finite, state, step_by_step

import nanfix

ARGUMENTS = {"epochs": 2, "batch_size": 16, "verbose": 0}


def two_replicas():
    """Split the CPU in two, before TensorFlow looks at it."""
    halves = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], halves)
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])


def network(strategy, optimizer):
    """Return a model made for `strategy`, with random, trained and counted state."""
    keras.utils.set_random_seed(0)
    with strategy.scope():
        hidden = [keras.layers.Dense(8, "relu"), keras.layers.Dropout(0.3), keras.layers.BatchNormalization()]
        model = keras.Sequential([keras.Input((4,)), *hidden, keras.layers.Dense(1)])
        model.compile(optimizer(), "mse")
    keras.utils.set_random_seed(1)
    return model


def healthy(strategy):
    """Say whether a watched run comes out as Keras makes it: history and every variable."""
    x, y = explosions.table(96)
    plain, watched = (network(strategy, lambda: keras.optimizers.Adam(0.01)) for _ in range(2))
    keras.utils.set_random_seed(2)
    history = plain.fit(x, y, **ARGUMENTS).history
    keras.utils.set_random_seed(2)
    report = nanfix.fit(watched, x, y, throw=False, **ARGUMENTS)
    same = [np.array_equal(left, right) for left, right in zip(state(plain), state(watched), strict=True)]
    return {"outcome": report.outcome.name, "history": report.history == history, "state": all(same)}


def exploding(strategy):
    """Return the onset by the oracle and by nanfix, and whether the model comes back finite."""
    x, y = explosions.table(96)
    plain, watched = (network(strategy, lambda: keras.optimizers.SGD(30.0)) for _ in range(2))
    keras.utils.set_random_seed(2)
    oracle = step_by_step(plain, x, y, **ARGUMENTS)
    keras.utils.set_random_seed(2)
    report = nanfix.fit(watched, x, y, strategies=(), throw=False, **ARGUMENTS)
    return {"oracle": str(oracle.onset), "onset": str(report.diagnosis.onset), "finite": finite(watched)}


if __name__ == "__main__":
    replicas = two_replicas()
    print(json.dumps({"healthy": healthy(replicas), "exploding": exploding(replicas)}))
