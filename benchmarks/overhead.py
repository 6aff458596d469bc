"""What watching costs: the wall time of nanfix.fit over that of model.fit, on healthy runs, in paired interleaved runs.

usage: python benchmarks/overhead.py [--pairs 5] [--seconds 4] [NAME ...]

Each row is one model in one mode; each pair trains the same model twice, once plainly and once watched, in turn, for about
--seconds each; what is compared is the time of training steps after the graph has been traced. Beside nanfix stand Keras'
TerminateOnNaN and a BackupAndRestore at every epoch, measured in the same rounds.
"""

import argparse
import os
import statistics
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from keras import layers

import nanfix

MODES = {"plain": {}, "steps_per_execution=8": {"steps_per_execution": 8}, "jit_compile": {"jit_compile": True}}


def tiny_mlp():
    return keras.Sequential([keras.Input((20,)), layers.Dense(32, "relu"), layers.Dense(1)]), (20,)


def cnn():
    return keras.Sequential(
        [keras.Input((28, 28, 1)), layers.Conv2D(16, 3, activation="relu"), layers.MaxPool2D(), layers.Flatten(), layers.Dense(1)]
    ), (28, 28, 1)


def lstm():
    return keras.Sequential([keras.Input((20, 8)), layers.LSTM(32), layers.Dense(1)]), (20, 8)


def wide_mlp():
    return keras.Sequential([keras.Input((512,)), layers.Dense(3000, "relu"), layers.Dense(2800, "relu"), layers.Dense(1)]), (
        512,
    )


MODELS = {"tiny MLP": tiny_mlp, "CNN": cnn, "LSTM": lstm, "10 M-parameter MLP": wide_mlp}


def compiled(make, mode):
    keras.utils.set_random_seed(0)
    model, shape = make()
    model.compile("adam", "mse", **mode)
    return model, shape


def data(shape, rows):
    rng = np.random.default_rng(0)
    return rng.normal(size=(rows, *shape)).astype("float32"), rng.normal(size=(rows, 1)).astype("float32")


def watched(model, x, y, **arguments):
    nanfix.fit(model, x, y, **arguments)


def plain(model, x, y, **arguments):
    model.fit(x, y, **arguments)


def terminating(model, x, y, **arguments):
    model.fit(x, y, callbacks=[keras.callbacks.TerminateOnNaN()], **arguments)


def backing_up(model, x, y, **arguments):
    with tempfile.TemporaryDirectory() as folder:
        model.fit(x, y, callbacks=[keras.callbacks.BackupAndRestore(folder)], **arguments)


WAYS = {"nanfix.fit": watched, "TerminateOnNaN": terminating, "BackupAndRestore": backing_up}


def seconds_of(way, model, x, y, epochs):
    begun = time.perf_counter()
    way(model, x, y, epochs=epochs, batch_size=32, verbose=0)
    return time.perf_counter() - begun


def measure(make, mode, pairs, seconds):
    """Return for each way the ratios to plain fit, one a round."""
    trained = {}
    for name, way in {"plain": plain, **WAYS}.items():
        model, shape = compiled(make, mode)
        x, y = data(shape, 2048)
        seconds_of(way, model, x, y, 1)  # traces the step
        trained[name] = model
    once = seconds_of(plain, trained["plain"], x, y, 2) / 2
    epochs = max(1, round(seconds / once))
    ratios = {name: [] for name in WAYS}
    for _ in range(pairs):
        base = seconds_of(plain, trained["plain"], x, y, epochs)
        for name, way in WAYS.items():
            ratios[name].append(seconds_of(way, trained[name], x, y, epochs) / base)
    return ratios


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="models to measure: " + ", ".join(MODELS))
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0)
    options = parser.parse_args()
    print("| model | mode | " + " | ".join(f"{name}: median (min to max)" for name in WAYS) + " |")
    print("|---|---|" + "---|" * len(WAYS))
    for name in options.names or MODELS:
        for mode, arguments in MODES.items():
            ratios = measure(MODELS[name], arguments, options.pairs, options.seconds)
            cells = [f"{statistics.median(r):.3f} ({min(r):.3f} to {max(r):.3f})" for r in ratios.values()]
            print(f"| {name} | {mode} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
