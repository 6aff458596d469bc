"""Callbacks that hold a fix's learning rate."""

from typing import Any

import keras
import numpy as np

from nanfix.setup import Setup, base_optimizer, has_schedule


class RateLimit(keras.callbacks.Callback):
    """Keeps callbacks that set the learning rate from raising it above the fix's."""

    def __init__(self, limit: float):
        super().__init__()
        self._limit = limit

    def _cap(self) -> None:
        optimizer = base_optimizer(self.model)
        if float(np.asarray(optimizer.learning_rate)) > self._limit:
            optimizer.learning_rate = self._limit

    def on_epoch_begin(self, epoch, logs=None):
        self._cap()

    def on_train_batch_begin(self, batch, logs=None):
        self._cap()


class WarmUp(keras.callbacks.Callback):
    """Raises the learning rate from 0 to where it stands at the beginning, in proportion over the first `steps` steps."""

    def __init__(self, steps: int):
        super().__init__()
        self._steps = steps

    def on_train_begin(self, logs=None):
        optimizer = base_optimizer(self.model)
        self._target, self._first = float(np.asarray(optimizer.learning_rate)), int(np.asarray(optimizer.iterations))
        self._warm = False

    def on_train_batch_begin(self, batch, logs=None):
        if not self._warm:
            optimizer = base_optimizer(self.model)
            done = int(np.asarray(optimizer.iterations)) - self._first
            self._warm = done >= self._steps
            optimizer.learning_rate = self._target * min(1.0, (done + 1) / self._steps)

    def on_train_end(self, logs=None):
        if not self._warm:
            base_optimizer(self.model).learning_rate = self._target


def rate_callbacks(setup: Setup) -> list[Any]:
    """Return the callbacks that hold the fix's learning rate against the user's own, and let it rise slowly."""
    rate, warm_up = setup.optimizer.get("learning_rate"), setup.stepping.warm_up
    limits = [RateLimit(rate)] if rate is not None and not has_schedule(setup.model) else []
    return [*limits, *([WarmUp(warm_up)] if warm_up is not None else [])]
