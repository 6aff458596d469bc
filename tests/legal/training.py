"""What a legal training is, and the parts that many are made of.

Nothing here knows nanfix, so that a fresh process can build them without it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import layers

ROWS, BATCH, FEATURES = 40, 8, 4
ARGUMENTS = {"epochs": 2, "batch_size": BATCH, "verbose": 0}
STREAMED = {"epochs": 2, "verbose": 0}
STEPS = ROWS // BATCH
SOUND, EXPLOSIVE = 0.05, 1e4  # learning rates


def called(fit, model, x, y, arguments):
    """Call fit as most people do."""
    return fit(model, x, y, **arguments)


@dataclass(frozen=True)
class Training:
    """A training that Keras takes, in a healthy and an explosive form.

    `build(explosive)` returns a new model, x, y and the arguments of fit; who calls it seeds.
    `ends` is the outcome that the explosive form has to come to, None where several are right.
    `predicts`, `evaluates` and `saves` say what the model can do at all, `raises` what the user's
    own code raises out of fit, `run` how fit is called, `needs` a module that may be missing,
    `devices` how many devices the process has to have, `compiles_anew` whether Keras trains it on
    after another `compile`, `loads_alone` whether the repaired model can be loaded, optimizer and
    all, where nanfix is not. Of those that are not `quick` the explosive form is run in `make soak`
    alone.
    """

    name: str
    build: Callable[[bool], tuple[Any, Any, Any, dict[str, Any]]]
    ends: str | None = None
    predicts: bool = True
    evaluates: bool = True
    saves: bool = True
    raises: type[Exception] | None = None
    run: Callable[..., Any] = called
    needs: str | None = None
    devices: int = 1
    compiles_anew: bool = True
    loads_alone: bool = True
    quick: bool = False


TABLE: dict[str, Training] = {}


def legal(**facts):
    """Enter a builder into the table under its own name."""

    def entered(build):
        assert build.__name__ not in TABLE, f"{build.__name__} stands twice in the table"
        TABLE[build.__name__] = Training(build.__name__, build, **facts)
        return build

    return entered


def rate(explosive):
    return EXPLOSIVE if explosive else SOUND


def sgd(explosive, **settings):
    return keras.optimizers.SGD(rate(explosive), **settings)


def compiled(model, explosive, loss="mse", **settings):
    model.compile(sgd(explosive), loss, **settings)
    return model


def table(rows=ROWS, features=FEATURES, seed=0):
    """Return inputs of unit scale, (rows, features), and a smooth target that differs from a
    constant, (rows, 1), in float32.
    """
    x = np.random.default_rng(seed).normal(size=(rows, features)).astype("float32")
    return x, (x[:, :1] - 0.5 * x[:, 1:2]).astype("float32")


def series(rows=ROWS, steps=4, features=3):
    """Return sequences (rows, steps, features) and a target (rows, 1), in float32."""
    x = np.random.default_rng(0).normal(size=(rows, steps, features)).astype("float32")
    return x, x[:, -1, :1].copy()


def images(rows=ROWS, size=6, channels=3):
    """Return images of bytes (rows, size, size, channels) and their mean brightness (rows, 1)."""
    x = np.random.default_rng(0).integers(0, 256, size=(rows, size, size, channels)).astype("uint8")
    return x, (x.mean(axis=(1, 2, 3))[:, None] / 255.0).astype("float32")


def mlp(*, features=FEATURES, outputs=1, activation="tanh", **settings):
    return keras.Sequential(
        [
            keras.Input((features,)),
            layers.Dense(6, activation, **settings),
            layers.Dense(outputs, **settings),
        ]
    )


def with_a_hole(x, explosive):
    """Return x, where it is to explode with a NaN in one row."""
    if explosive:
        x = x.copy()
        x[ROWS // 2, 0] = np.nan
    return x
