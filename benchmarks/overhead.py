"""What watching costs: the wall time of nanfix.fit over that of model.fit, on healthy runs, in
paired interleaved runs.

usage: python benchmarks/overhead.py [--rounds 9] [--seconds 1.2] [NAME ...]

Each row is one model in one mode; each round trains it plainly and in every other way,
in random order, for about --seconds each, after the graph has been traced. Each cell
has the ratio of wall time (median, least and most) and of CPU time (median). Beside
nanfix stand a second plain run (the noise), Keras' TerminateOnNaN, a BackupAndRestore
at every epoch, and tf.debugging.enable_check_numerics. Memory is the most that
snapshots and batches held, and what they might have.
"""

import argparse
import os
import random
import statistics
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
from keras import layers

import nanfix

MODES = {
    "plain": {},
    "steps_per_execution=8": {"steps_per_execution": 8},
    "jit_compile": {"jit_compile": True},
}


def tiny_mlp():
    return keras.Sequential([keras.Input((20,)), layers.Dense(32, "relu"), layers.Dense(1)]), (20,)


def cnn():
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(16, 3, activation="relu"),
            layers.MaxPool2D(),
            layers.Flatten(),
            layers.Dense(1),
        ]
    ), (28, 28, 1)


def lstm():
    return keras.Sequential([keras.Input((20, 8)), layers.LSTM(32), layers.Dense(1)]), (20, 8)


def wide_mlp():
    return keras.Sequential(
        [
            keras.Input((512,)),
            layers.Dense(3000, "relu"),
            layers.Dense(2800, "relu"),
            layers.Dense(1),
        ]
    ), (512,)


MODELS = {"tiny MLP": tiny_mlp, "CNN": cnn, "LSTM": lstm, "10 M-parameter MLP": wide_mlp}


def compiled(make, mode):
    keras.utils.set_random_seed(0)
    model, shape = make()
    model.compile("adam", "mse", **mode)
    return model, shape


def data(shape, rows):
    rng = np.random.default_rng(0)
    return rng.normal(size=(rows, *shape)).astype("float32"), rng.normal(size=(rows, 1)).astype(
        "float32"
    )


def plain(model, x, y, **arguments):
    model.fit(x, y, **arguments)


def watched(model, x, y, **arguments):
    return nanfix.fit(model, x, y, **arguments)


def terminating(model, x, y, **arguments):
    model.fit(x, y, callbacks=[keras.callbacks.TerminateOnNaN()], **arguments)


def backing_up(model, x, y, **arguments):
    with tempfile.TemporaryDirectory() as folder:
        model.fit(x, y, callbacks=[keras.callbacks.BackupAndRestore(folder)], **arguments)


def checking(model, x, y, **arguments):
    tf.debugging.enable_check_numerics()
    try:
        model.fit(x, y, **arguments)
    finally:
        tf.debugging.disable_check_numerics()


PLAIN, NANFIX, CHECKED = "plain", "nanfix.fit", "check_numerics"
WAYS = {
    PLAIN: plain,
    NANFIX: watched,
    "plain again": plain,
    "TerminateOnNaN": terminating,
    "BackupAndRestore": backing_up,
    CHECKED: checking,
}


def seconds_of(way, model, x, y, epochs):
    """Return wall and CPU seconds of one training."""
    wall, cpu = time.perf_counter(), time.process_time()
    way(model, x, y, epochs=epochs, batch_size=32, verbose=0)
    return time.perf_counter() - wall, time.process_time() - cpu


def traced(name, make, mode):
    """Return a model whose step has been traced; None where TensorFlow cannot, as it
    cannot check numbers under XLA.
    """
    model, shape = compiled(make, mode)
    x, y = data(shape, 64)
    try:
        seconds_of(WAYS[name], model, x, y, 1)
    except tf.errors.OpError:
        return None
    return model


def measure(make, mode, rounds, seconds):
    """Return for each way its ratios to plain fit, a pair (wall, CPU) a round, and what
    the recorder held.
    """
    models = {name: traced(name, make, mode) for name in WAYS}
    x, y = data(models[PLAIN].input_shape[1:], 2048)
    once = seconds_of(plain, models[PLAIN], x, y, 2)[0] / 2
    epochs = max(1, round(seconds / once))
    ratios = {name: [] for name, model in models.items() if model is not None}
    order = random.Random(0)
    for _ in range(rounds):
        took = {
            name: seconds_of(WAYS[name], models[name], x, y, epochs)
            for name in order.sample(list(ratios), len(ratios))
        }
        for name, (wall, cpu) in took.items():
            ratios[name].append((wall / took[PLAIN][0], cpu / took[PLAIN][1]))
    return ratios, watched(models[NANFIX], x, y, epochs=epochs, batch_size=32, verbose=0).recorder


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", help="models to measure: " + ", ".join(MODELS))
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=1.2)
    options = parser.parse_args()
    compared = [name for name in WAYS if name != PLAIN]
    print(
        "| model | mode | "
        + " | ".join(f"{name}: wall (min to max), CPU" for name in compared)
        + " | memory |"
    )
    print("|---|---|" + "---|" * (len(compared) + 1))
    for name in options.names or MODELS:
        for mode, arguments in MODES.items():
            ratios, usage = measure(MODELS[name], arguments, options.rounds, options.seconds)
            cells = [cell(ratios.get(way)) for way in compared]
            memory = f"{usage.peak_bytes / 1e6:.1f} of {usage.memory_bytes / 1e6:.0f} MB"
            print(f"| {name} | {mode} | " + " | ".join(cells) + f" | {memory} |", flush=True)


def cell(ratios):
    if ratios is None:
        return "fails"
    wall, cpu = zip(*ratios, strict=True)
    return (
        f"{statistics.median(wall):.3f} ({min(wall):.2f} to {max(wall):.2f}), "
        f"{statistics.median(cpu):.3f}"
    )


if __name__ == "__main__":
    main()
