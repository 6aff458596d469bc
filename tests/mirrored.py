"""Run by test_modes.py in a process of its own: training on two replicas, which have to be named
before TensorFlow starts.
"""

import json
import os

import explosions
import hurried
import keras
import numpy as np
import tensorflow as tf
from modes import late
from twins import diagnosed, finite, step_by_step, trained, twins_of

import nanfix

ARGUMENTS = {"epochs": 2, "batch_size": 16, "verbose": 0}
# Few epochs of many steps: two replicas take long for the iterator that an epoch begins with.
LONG = {"epochs": 3, "batch_size": 4, "verbose": 0}


def two_replicas():
    """Split the CPU in two, before TensorFlow looks at it."""
    halves = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], halves)
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])


def network(strategy, rate=1e10, sound=18, optimizer=None):
    """Return a model of `strategy` with random, trained and counted state, sound for
    three epochs of six steps.
    """
    keras.utils.set_random_seed(0)
    with strategy.scope():
        hidden = [
            keras.layers.Dense(8, "relu"),
            keras.layers.Dropout(0.3),
            keras.layers.BatchNormalization(),
        ]
        model = keras.Sequential([keras.Input((4,)), *hidden, keras.layers.Dense(1)])
        model.compile(late(rate, sound) if optimizer is None else optimizer, "mse")
    keras.utils.set_random_seed(1)
    return model


def seen(strategy):
    """Tell of two epochs that go well and two more that do not, trained by Keras and watched."""
    build = lambda: (network(strategy), *explosions.table(96), dict(ARGUMENTS))  # noqa: E731
    twins = twins_of(build)
    healthy = {
        "outcome": twins.report.outcome.name,
        "history": twins.report.history == twins.history.history,
        "state": all(
            np.array_equal(left, right) for left, right in zip(*twins.states, strict=True)
        ),
    }
    _, oracle = trained(step_by_step, build, twins.plain)
    model, report = trained(diagnosed, build, twins.watched)
    sick = {
        "oracle": str(oracle.onset),
        "onset": str(report.diagnosis.onset),
        "finite": finite(model),
    }
    return {"healthy": healthy, "sick": sick}


def repaired(strategy):
    """Tell what becomes of a run whose rate is too high."""
    with strategy.scope():
        optimizer = keras.optimizers.SGD(30.0)
    model, (x, y) = network(strategy, optimizer=optimizer), explosions.table(96)
    report = nanfix.fit(model, x, y, strategies=["lower-learning-rate"], throw=False, **LONG)
    return {
        "outcome": report.outcome.name,
        "finite": finite(model),
        "epochs": len(report.history["loss"]),
        "told": str(report),
    }


if __name__ == "__main__":
    replicas = two_replicas()
    hurried.rewrite_no_graphs()
    hurried.trace_datasets_once()
    found = seen(replicas)
    # It waits a minute for iterators to end.
    more = {"repaired": repaired(replicas)} if os.environ.get("NANFIX_SOAK") else {}
    print(json.dumps({**found, **more}))
