"""Ends a probe in time, and lets the graph run many of its steps in one call."""

import contextlib
import math
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import tensorflow as tf

from nanfix.model.logged_losses import is_running_mean, loss_of
from nanfix.model.training_step import RecordingStep, Row

AT_ONCE = 32  # steps that a graph runs in one call, where nothing acts between them
LAST = 16  # losses of single steps, of which the mean is taken


class Enough(Exception):
    """Ends a probe that has run its steps or turned non-finite."""


class ProbeWatch(keras.callbacks.Callback):
    """Ends a probe at its first non-finite loss, when it has run its steps, or when it is lost.

    Lost is a probe whose mean loss stands far above that of the untrained model.
    """

    def __init__(self, limit: int, lost: float):
        super().__init__()
        self.steps, self.loss = 0, 0.0
        self.finite = True
        self.row: Row | None = None  # of the steps that are run in one call
        self._last: deque[float] = deque(maxlen=LAST)
        self._running_mean: bool | None = None
        self._limit = limit
        self._lost = lost
        self._batch = 0

    def on_epoch_begin(self, epoch, logs=None):
        self._batch = 0

    def on_train_batch_begin(self, batch, logs=None):
        if self.row is not None:
            of_epoch = (self.params or {}).get("steps") or math.inf
            self.row.wanted = int(min(AT_ONCE, self._limit - self.steps, of_epoch - self._batch))

    def on_train_batch_end(self, batch, logs=None):
        # Keras names the last step of a full row, though fewer may have been run.
        last = batch if self.row is None else self._batch + self.row.done - 1
        self.steps += last + 1 - self._batch
        self._batch = last + 1
        loss = loss_of(logs)
        if loss is not None and not math.isfinite(loss):
            self.finite = False
            raise Enough
        self._last.append(0.0 if loss is None else loss)
        if self._running_mean is None and self.steps > 1 and loss is not None:
            self._running_mean = is_running_mean(self.model, logs)
        self.loss = self._last[-1] if self._running_mean else sum(self._last) / len(self._last)
        if self.steps >= self._limit or (last >= 10 and self.loss > self._lost):
            raise Enough


@contextlib.contextmanager
def many_at_once(
    watch: ProbeWatch, model: keras.Model, x: Any, acting: Sequence[keras.callbacks.Callback]
) -> Iterator[None]:
    """Let the graph run many steps in each call inside the `with` block, for a model that trains by
    Keras' own step on a dataset, with no callbacks `acting` between the steps.

    Where steps are small, that is several times as fast. They are the same steps, and come to the
    same loss.
    """
    step = model.train_function
    if not (
        not acting
        and isinstance(step, RecordingStep)
        and step.steps == 1
        and isinstance(x, tf.data.Dataset)
        and getattr(model.train_step, "__func__", None) is keras.Model.train_step
        and model.distribute_strategy.num_replicas_in_sync == 1
        and not model.run_eagerly
    ):
        yield
        return
    step.row = watch.row = Row(AT_ONCE)
    model.steps_per_execution = AT_ONCE
    try:
        yield
    finally:
        step.row, model.steps_per_execution = None, 1
