"""Runs that fail for want of one remedy, each beside what an expert would write by hand."""

import zlib
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from typing import Any

import keras
import numpy as np
from _faults import FAULTS, Fault
from _recipes import Recipe, draw

ROWS, HELD, BATCH, EPOCHS = 480, 1000, 16, 8
SHARE_HELD_BACK = 0.2  # of ROWS, for validation
TRAINED = int(ROWS * (1.0 - SHARE_HELD_BACK))
WRITTEN = ("functional", "sequential", "own class")
FED = ("arrays", "float64", "frame", "dataset", "sequence")
FEATURES = (3, 5, 8, 12, 16)
ANY_KIND = ("mlp", "recurrent", "convolutional")


@dataclass(frozen=True)
class Judge:
    """A figure of how good predictions are, of targets (rows, n) and predictions (rows, m)."""

    metric: str
    figure: Callable[[np.ndarray, np.ndarray], float]


@dataclass
class Run:
    """A training as its user wrote it and as an expert would.

    Attributes:
        x, y: rows that neither has seen, as clean as an expert would have them.
        undo: makes of the expert's predictions what the user's model predicts.
    """

    plain: Recipe
    expert: Recipe
    x: np.ndarray
    y: np.ndarray
    judge: Judge
    undo: Callable[[np.ndarray], np.ndarray] = np.asarray

    def figure(self, model: Any) -> float:
        return self._judged(np.asarray(model.predict(self.x, verbose=0)))

    def expert_figure(self, model: Any) -> float:
        return self._judged(self.undo(np.asarray(model.predict(self.x, verbose=0))))

    def nothing(self) -> float:
        """Return the figure of a model that predicts the same for every row."""
        y = self.y
        if self.plain.task == "multiclass":
            counts = y.sum(axis=0) if y.ndim > 1 else np.bincount(y, minlength=self.plain.classes)
            return self._judged(np.tile(counts / counts.sum(), (len(y), 1)))
        return self._judged(np.tile(y.mean(axis=0), (len(y), 1)))

    def _judged(self, predicted: np.ndarray) -> float:
        return float(self.judge.figure(self.y, predicted.astype("float64")))


Make = Callable[[Recipe, np.random.Generator], Run]
REMEDIES: dict[str, list[tuple[Make, dict[str, Any]]]] = {}


def remedy(name: str, **wanted: Any) -> Callable[[Make], Make]:
    """Register a function that makes of a training that learns one which fails for want
    of a strategy; `wanted` says of what is drawn which values it may have.
    """

    def registered(make: Make) -> Make:
        REMEDIES.setdefault(name, []).append((make, wanted))
        return make

    return registered


def of_faults(name: str, *faults: str, **wanted: Any) -> None:
    """Register faults that an expert would take away."""
    for each in faults:
        fault = FAULTS[each]
        remedy(name, **{**fault.wanted, **wanted})(partial(_with_fault, fault))


def drawn(name: str, number: int, attempt: int) -> Run:
    """Return a draw of the run of this number for a strategy, whether or not it counts."""
    forms = REMEDIES[name]
    make, wanted = forms[number % len(forms)]
    rng = np.random.default_rng([zlib.crc32(name.encode()), number, attempt])
    chosen = {key: values[rng.integers(len(values))] for key, values in wanted.items()}
    # How the user writes the model and gives the data is the same for the expert.
    written, fed = str(rng.choice(WRITTEN)), str(rng.choice(FED))
    run = make(whole_recipe(rng, {"features": int(rng.choice(FEATURES)), **chosen}), rng)
    fed = fed if fed != "frame" or run.plain.x.ndim == 2 else "arrays"
    for recipe in (run.plain, run.expert):
        recipe.written, recipe.fed = written, fed
    return run


def whole_recipe(rng: np.random.Generator, wanted: dict[str, Any]) -> Recipe:
    """Return a training that learns, with the rows to judge by behind those of the training."""
    recipe = draw(rng, {"rows": ROWS + HELD, "batch": BATCH, "kind": "mlp", **wanted})
    recipe.arguments = {"epochs": EPOCHS, "validation_split": SHARE_HELD_BACK}
    return recipe


def split(plain: Recipe, expert: Recipe | None = None) -> Run:
    """Return a run of two recipes, cut to the rows of the training; without one of the
    expert's, of the same twice.
    """
    expert = deepcopy(plain) if expert is None else expert
    x, y = expert.x[ROWS:], expert.y[ROWS:]
    for recipe in (plain, expert):
        recipe.x, recipe.y = recipe.x[:ROWS].copy(), recipe.y[:ROWS].copy()
    return Run(plain, expert, x, y, judge_of(plain.task))


def judge_of(task: str) -> Judge:
    if task == "regression":
        return Judge("r2", r2)
    return Judge("accuracy", binary_accuracy if task == "binary" else accuracy)


def r2(y: np.ndarray, predicted: np.ndarray) -> float:
    """Return the share of the variance that is explained, the mean over the columns."""
    y = y.astype("float64")
    return float(np.mean(1.0 - np.mean((predicted - y) ** 2, axis=0) / np.var(y, axis=0)))


def accuracy(y: np.ndarray, predicted: np.ndarray) -> float:
    classes = y.argmax(axis=1) if y.ndim > 1 else y
    return float(np.mean(predicted.argmax(axis=1) == classes))


def binary_accuracy(y: np.ndarray, predicted: np.ndarray, threshold: float = 0.5) -> float:
    return float(np.mean((predicted > threshold) == (y > 0.5)))


def some(rng: np.random.Generator, low: int, high: int) -> np.ndarray:
    """Return some rows of those that are trained on."""
    return rng.choice(TRAINED, size=int(rng.integers(low, high)), replace=False)


def normalization(data: np.ndarray) -> keras.layers.Layer:
    layer = keras.layers.Normalization(axis=-1)
    layer.adapt(data)
    return layer


def _with_fault(fault: Fault, whole: Recipe, rng: np.random.Generator) -> Run:
    seed = int(rng.integers(1 << 32))
    if fault.kept is None:
        run = split(whole)
        fault.put(run.plain, np.random.default_rng(seed))
        return run
    expert = deepcopy(whole)
    fault.put(whole, np.random.default_rng(seed))
    fault.kept(expert, np.random.default_rng(seed))
    return split(whole, expert)
