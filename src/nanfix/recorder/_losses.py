"""The losses of a training: of its last steps, of its epochs, and at its snapshots."""

import math
from collections import deque
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from nanfix.model.logged_losses import is_running_mean, loss_of, named_loss
from nanfix.private.objects import loss_tracker

# Steps whose loss is remembered: enough to see a rise that takes some epochs; 8 KB.
REMEMBERED_STEPS = 1024
ROUNDED = 1e-6  # share of a sum in float32 of which a difference says not even its sign


class LossSeries:
    """Keeps the losses of the last steps, of every epoch, and in the step after each snapshot.

    Attributes:
        steps: of the last steps, oldest first.
        epochs: by epoch (from 0), its validation loss or, without one, its training loss.
        at_snapshots: by the number of steps before a snapshot, the loss in the step after it.
        first: of the first step that was seen; NaN before it.
    """

    def __init__(self):
        self.steps: deque[float] = deque(maxlen=REMEMBERED_STEPS)
        self.epochs: dict[int, float] = {}
        self.at_snapshots: dict[int, float] = {}
        self.first = math.nan
        self._sum = 0.0  # of the epoch's losses, where Keras logs their running mean
        self._logs_mean: bool | None = None  # a training step of the user's own may not

    def begin_epoch(self) -> None:
        self._sum = 0.0

    def add(
        self, loss: float, model: keras.Model, logs: Any, *, done: int, steps: int, snapshot: int
    ) -> None:
        """Take in the finite loss that was logged after `steps` more steps.

        Args:
            done: steps of the epoch, with these.
            snapshot: steps before the newest snapshot.
        """
        if self._logs_mean is None and done > 1:
            self._logs_mean = is_running_mean(model, logs)
        total = loss * done
        rest = total - self._sum
        if abs(rest) < ROUNDED * abs(self._sum):  # beside one that was great
            rest = abs(rest)
        self.steps.append(loss if self._logs_mean is False else rest / steps)
        self._sum = total
        self.at_snapshots.setdefault(snapshot, self.steps[-1])
        if math.isnan(self.first):
            self.first = self.steps[-1]

    def add_nonfinite(self, snapshot: int) -> None:
        """Take in that the loss turned non-finite, perhaps in the step after a snapshot."""
        self.at_snapshots.setdefault(snapshot, math.inf)

    def end_epoch(self, epoch: int, logs: Mapping[str, Any] | None) -> float | None:
        """Take in the figures of an epoch; return its validation loss, or None without one."""
        figures = {name: n for name, n in (logs or {}).items() if name != "learning_rate"}
        validated = {
            name.removeprefix("val_"): n for name, n in figures.items() if name.startswith("val_")
        }
        trained = {name: n for name, n in figures.items() if not name.startswith("val_")}
        validation_loss, training_loss = named_loss(validated), loss_of(trained)
        known = [loss for loss in (validation_loss, training_loss) if loss is not None]
        self.epochs[epoch] = known[0] if known else math.nan
        return validation_loss


def sum_is_finite(model: Any) -> bool:
    """Say whether the losses that Keras has summed up are finite; one over no rows is shown as 0
    though it is not.
    """
    tracker = loss_tracker(model)
    return tracker is None or math.isfinite(float(np.asarray(tracker.total)))
