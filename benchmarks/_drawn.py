"""Cases drawn at random: ordinary networks on ordinary data with raw scales, bold rates and
careless initial weights.

The expert scales inputs and targets and uses Adam at 3e-3 with fitting initial weights.
"""

from functools import partial
from types import SimpleNamespace

import numpy as np

# Powers of ten of the learning rate.
OPTIMIZERS = {"SGD": (-3.0, 0.0), "RMSprop": (0.0, 2.0), "Adam": (0.5, 2.0)}
TRIES = 100


def case(number):
    """Return the drawn training of this number; its plain training goes non-finite."""
    for attempt in range(TRIES):
        spec = _draw(np.random.default_rng([number, attempt]))
        if _breaks(spec):
            name = "val_accuracy" if _load(spec)[2] else "val_r2"
            made = {
                "build": partial(_build, spec),
                "expert_fix": partial(_build, spec, expert=True),
            }
            return SimpleNamespace(**made, EXPERT_METRIC=(name,))
    raise RuntimeError(f"No training of number {number} goes non-finite in {TRIES} draws.")


def _draw(rng):
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


def _load(spec):
    from sklearn import datasets

    rng = np.random.default_rng(spec["seed"])
    if spec["data"] == "friedman":
        x, y = datasets.make_friedman1(800, 8, noise=0.5, random_state=spec["seed"])
        return (
            (x * 10.0 ** rng.integers(-1, 4, 8)).astype("float32"),
            (y * 100.0)[:, None].astype("float32"),
            False,
        )
    bunch = (
        datasets.load_diabetes(scaled=False)
        if spec["data"] == "diabetes"
        else getattr(datasets, f"load_{spec['data']}")()
    )
    order = rng.permutation(len(bunch.data))
    x, y = bunch.data[order].astype("float32"), bunch.target[order]
    return (
        (x, y[:, None].astype("float32"), False)
        if spec["data"] == "diabetes"
        else (x, y.astype("int64"), True)
    )


def _build(spec, expert=False):
    import keras
    from keras import layers

    keras.utils.set_random_seed(spec["seed"])
    x, y, classes = _load(spec)
    spread = keras.initializers.RandomNormal(stddev=spec["spread"], seed=spec["seed"])
    hidden = [
        layers.Dense(
            spec["width"], spec["activation"], kernel_initializer="he_normal" if expert else spread
        )
        for _ in range(spec["depth"])
    ]
    last = layers.Dense(int(y.max()) + 1, "softmax") if classes else layers.Dense(1)
    model = keras.Sequential([keras.Input(x.shape[1:]), *hidden, last])
    optimizer = (
        keras.optimizers.Adam(3e-3)
        if expert
        else getattr(keras.optimizers, spec["optimizer"])(spec["rate"])
    )
    metrics = ["accuracy"] if classes else [keras.metrics.R2Score(name="r2")]
    model.compile(
        optimizer, "sparse_categorical_crossentropy" if classes else "mse", metrics=metrics
    )
    if expert:
        x = (x - x.mean(0)) / (x.std(0) + 1e-6)
        y = y if classes else (y - y.mean()) / y.std()
    return model, x, y, {"epochs": 12, "batch_size": 32, "validation_split": 0.2}


def _breaks(spec):
    model, x, y, arguments = _build(spec)
    model.fit(x, y, **{**arguments, "epochs": 4, "verbose": 0})
    return not all(np.isfinite(weight).all() for weight in model.get_weights())
