"""How well nanfix repairs everyday explosions, beside what an expert who knows the cause reaches.

usage: python benchmarks/repair.py [--count 6] [--seed 0]

Draws ordinary networks on ordinary data with raw scales, bold rates and careless initial weights, keeps those whose plain
training goes non-finite, and repairs each by nanfix.fit. The expert scales inputs and targets and uses Adam at 3e-3 with fitting
initial weights. Quality is R2 or accuracy on held data, raw inputs and user's units; seconds are wall time, tracing included.
"""

import argparse
import os
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import keras
import numpy as np
from keras import layers
from sklearn import datasets

import nanfix

OPTIMIZERS = {"SGD": (-3.0, 0.0), "RMSprop": (0.0, 2.0), "Adam": (0.5, 2.0)}  # powers of ten of the learning rate


def draw(rng):
    """Return one careless training as plain data."""
    name = str(rng.choice(list(OPTIMIZERS)))
    return {
        "data": str(rng.choice(["diabetes", "friedman", "wine", "digits"])),
        "depth": int(rng.integers(1, 7)),
        "width": int(rng.choice([8, 32, 64])),
        "activation": str(rng.choice(["relu", "elu", "linear", "softplus", "leaky_relu"])),
        "spread": float(rng.choice([0.1, 0.5, 1.0])),
        "optimizer": name,
        "rate": float(10.0 ** rng.uniform(*OPTIMIZERS[name])),
        "seed": int(rng.integers(1 << 16)),
    }


def load(spec):
    rng = np.random.default_rng(spec["seed"])
    if spec["data"] == "friedman":
        x, y = datasets.make_friedman1(800, 8, noise=0.5, random_state=spec["seed"])
        return (x * 10.0 ** rng.integers(-1, 4, 8)).astype("float32"), (y * 100.0)[:, None].astype("float32"), False
    bunch = datasets.load_diabetes(scaled=False) if spec["data"] == "diabetes" else getattr(datasets, f"load_{spec['data']}")()
    order = rng.permutation(len(bunch.data))
    x, y = bunch.data[order].astype("float32"), bunch.target[order]
    return (x, y[:, None].astype("float32"), False) if spec["data"] == "diabetes" else (x, y.astype("int64"), True)


def build(spec, expert=False):
    keras.utils.set_random_seed(spec["seed"])
    x, y, classes = load(spec)
    spread = keras.initializers.RandomNormal(stddev=spec["spread"], seed=spec["seed"])
    hidden = [
        layers.Dense(spec["width"], spec["activation"], kernel_initializer="he_normal" if expert else spread)
        for _ in range(spec["depth"])
    ]
    last = layers.Dense(int(y.max()) + 1, "softmax") if classes else layers.Dense(1)
    model = keras.Sequential([keras.Input(x.shape[1:]), *hidden, last])
    optimizer = keras.optimizers.Adam(3e-3) if expert else getattr(keras.optimizers, spec["optimizer"])(spec["rate"])
    model.compile(optimizer, "sparse_categorical_crossentropy" if classes else "mse")
    if expert:
        x = (x - x.mean(0)) / (x.std(0) + 1e-6)
        y = y if classes else (y - y.mean()) / y.std()
    return model, x, y, {"epochs": 12, "batch_size": 32, "validation_split": 0.2, "verbose": 0}


def quality(model, x, y):
    """Return R2 or accuracy on the held rows; NaN where predictions are not finite."""
    start = int(len(x) * 0.8)
    predicted, truth = model.predict(x[start:], verbose=0), y[start:]
    if not np.isfinite(predicted).all():
        return float("nan")
    if truth.ndim == 1:
        return float(np.mean(predicted.argmax(axis=1) == truth))
    return float(1.0 - np.mean((predicted - truth) ** 2) / np.var(truth))


def timed(spec, expert, fit):
    model, x, y, arguments = build(spec, expert)
    begun = time.perf_counter()
    result = fit(model, x, y, arguments)
    return time.perf_counter() - begun, quality(model, x, y), result


def breaks(spec):
    model, x, y, arguments = build(spec)
    model.fit(x, y, **{**arguments, "epochs": 4})
    return not all(np.isfinite(weight).all() for weight in model.get_weights())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng, gaps, extras, done = np.random.default_rng(options.seed), [], [], 0
    print(
        "| training | outcome | nanfix | expert | extra seconds | trials | fix |\n|---|---|---|---|---|---|---|",
    )
    while done < options.count:
        spec = draw(rng)
        if not breaks(spec):
            continue
        done += 1
        base, best, _ = timed(spec, True, lambda model, x, y, arguments: model.fit(x, y, **arguments))
        spent, reached, report = timed(
            spec, False, lambda model, x, y, arguments: nanfix.fit(model, x, y, throw=False, seed=0, **arguments)
        )
        gaps.append(best - reached)
        extras.append(spent - base)
        told = f"{spec['data']}, {spec['depth']} x {spec['width']} {spec['activation']}, {spec['optimizer']} {spec['rate']:.3g}"
        names = ", ".join(edit.strategy for edit in report.fix.edits)
        print(
            f"| {told} | {report.outcome.name} | {reached:.3f} | {best:.3f} "
            f"| {spent - base:.1f} | {len(report.trials)} | {names} |",
            flush=True,
        )
    level = sum(gap <= 0.02 for gap in gaps)
    print(f"\nat the expert's level (within 0.02): {level} of {done}")
    print(f"extra seconds: median {statistics.median(extras):.1f}, max {max(extras):.1f}")


if __name__ == "__main__":
    main()
