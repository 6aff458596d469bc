"""Callbacks that watched a figure which was not finite, and what they made of the training.

Where the figure of the first epoch is NaN, Keras' callbacks take that for the best for ever, as
nothing is less than NaN, nor greater.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import keras
import numpy as np

from nanfix.data.training_data import TrainingData
from nanfix.recorder.callbacks import user_callbacks
from nanfix.recorder.watch import Watched

SAME = 1e-3  # share by which a rate may differ from what a callback would have set


@dataclass(frozen=True)
class Misled:
    """A callback to which an epoch could not look better than the one before: it `watched` a figure
    that was NaN or inf. `did` says what came of that; it has `changed` the training or not.
    """

    name: str
    watched: str
    when: str
    did: str
    changed: bool

    def __str__(self):
        did = f", and {self.did}" if self.did else ""
        return f"{self.name} watched {self.watched}, which was not finite {self.when}{did}"


def misled(data: TrainingData, watched: Watched) -> list[Misled]:
    """Return the callbacks of a training that watched a figure which was not finite."""
    found = []
    for callback in user_callbacks(data):
        name = str(getattr(callback, "monitor", ""))
        figures = watched.history.get(name, ())
        epochs = [n for n, figure in enumerate(figures, 1) if not math.isfinite(figure)]
        if not epochs:
            continue
        when = _in(len(epochs), len(figures))
        changes = list(_changes(callback, watched))
        did = " and ".join([*changes, *_kept(callback, epochs[0])])
        found.append(Misled(type(callback).__name__, name, when, did, changed=bool(changes)))
    return found


def _in(some: int, every: int) -> str:
    return "in every epoch" if some == every else f"in {some} of {every} epochs"


def _changes(callback: Any, watched: Watched) -> Iterator[str]:
    """Yield what a callback did to the training."""
    if isinstance(callback, keras.callbacks.ReduceLROnPlateau):
        rates = _rates(callback, watched)
        cuts = [pair for pair in pairwise(rates) if _is_cut(callback, *pair)]
        if cuts:
            yield f"cut the learning rate from {cuts[0][0]:.3g} to {cuts[-1][1]:.3g}"
    if isinstance(callback, keras.callbacks.EarlyStopping):
        asked, epochs = watched.params.get("epochs"), len(watched.epoch)
        if callback.stopped_epoch:
            yield f"stopped the training after {epochs} of {asked} epochs"
        if callback.restore_best_weights and callback.best_weights is not None:
            yield f"put the weights of epoch {callback.best_epoch + 1} back"


def _kept(callback: Any, first: int) -> Iterator[str]:
    """Yield what a callback took for the best, which leaves the training as it is; `first` is the
    first epoch whose figure was not finite.
    """
    saves_best = isinstance(callback, keras.callbacks.ModelCheckpoint) and callback.save_best_only
    if saves_best and first == 1:  # no later figure is less than NaN, nor greater
        yield "kept the model of epoch 1 as the best"


def _rates(callback: Any, watched: Watched) -> Sequence[float]:
    """Return the learning rate of each epoch, which such a callback logs, and that of the end."""
    rate: Any = callback.model.optimizer.learning_rate
    return [*watched.history.get("learning_rate", ()), float(np.asarray(rate))]


def _is_cut(callback: Any, before: float, after: float) -> bool:
    expected = max(before * callback.factor, callback.min_lr)
    return after < before and abs(after - expected) <= SAME * expected
