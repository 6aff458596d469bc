"""The batches since the newest snapshot, with what they take of the memory."""

from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from nanfix.model.object_state import plain_variables
from nanfix.model.optimizers import optimizers, rate_variables
from nanfix.model.snapshot import read
from nanfix.model.training_step import Batch, Drawn, batch_bytes, whole
from nanfix.recorder.recording import Execution, RecordedStep, SetAt, Settings, recorded_steps

BATCH_HOOKS = ("on_train_batch_begin", "on_train_batch_end", "on_batch_begin", "on_batch_end")
MOST_SET = 2000  # so often the model's numbers are kept that callbacks have set


class RecordedBatches:
    """Holds, by reference, the batches of every execution since the newest snapshot.

    `first` is the first batch of the training.

    Args:
        callbacks: the user's; one that acts between steps may set something there.
    """

    def __init__(self, callbacks: Sequence[keras.callbacks.Callback]):
        self.first: Batch = None
        self._executions: list[Execution] = []
        self._bytes_of_an_execution = 0
        self._set: Settings = ()
        self._set_between_steps = any(_has_batch_hooks(callback) for callback in callbacks)
        # What a step left in each of the model's numbers, to see what callbacks have set since.
        self._left: Settings | None = None if callbacks else ()
        self._set_at: list[SetAt] = []

    @property
    def nbytes(self) -> int:
        return len(self._executions) * self._bytes_of_an_execution

    @property
    def steps_of_the_epoch(self) -> int | None:
        """The steps of the epoch up to the last batch; None right after a snapshot."""
        if not self._executions:
            return None
        last = self._executions[-1]
        return last.step + last.drawn.count - 1

    def steps(self) -> tuple[RecordedStep, ...]:
        return tuple(recorded_steps(self._executions))

    def recorded(self, *, steps: bool) -> dict[str, Any]:
        """Return what a Recording holds of this; without `steps` no batch is unpacked."""
        return {
            "steps": self.steps() if steps else (),
            "first_batch": self.first,
            "set_at": tuple(self._set_at),
        }

    @property
    def set_finite(self) -> bool:
        """Say whether what was set for the execution to come is finite."""
        return all(np.isfinite(value).all() for _, value in self._set)

    def read_settings(self, model: keras.Model, total: int, *, epoch_begins: bool) -> None:
        """Note what a callback may have set for the execution to come, after `total` steps: the
        learning rates, and the numbers of the model that are not as the last step left them, such
        as a temperature.
        """
        self._set = ()
        if self._set_between_steps or epoch_begins:
            changed = self._changed()
            self._set = (
                *((rate, read(rate)) for rate in rate_variables(optimizers(model))),
                *changed,
            )
            if changed:
                self._set_at.append((total, changed))
                if len(self._set_at) > MOST_SET:  # the nearest one before stands for what is gone
                    del self._set_at[1:-1:2]

    def _changed(self) -> Settings:
        now = ((variable, left, read(variable)) for variable, left in self._left or ())
        return tuple((variable, value) for variable, left, value in now if value != left)

    def add(self, model: keras.Model, drawn: Drawn, *, epoch: int, step: int) -> None:
        """Hold the batches of an execution whose first step is `step` (from 1) of `epoch` (from 0),
        and which the model has just made.
        """
        numbers = _numbers(model) if self._left is None else (number for number, _ in self._left)
        self._left = tuple((number, read(number)) for number in numbers)
        self._executions.append(Execution(epoch, step, self._set, drawn))
        if self.first is None:
            self.first = whole(drawn.first)
        # The batches of one source are about alike, so only the 1st, 2nd, 4th, 8th ... is measured.
        count = len(self._executions)
        if count & (count - 1) == 0:
            measured = drawn.count * batch_bytes(drawn.first)
            self._bytes_of_an_execution = max(self._bytes_of_an_execution, measured)

    def clear(self) -> None:
        """Let go of the batches: a snapshot was taken after them."""
        self._executions = []


def _numbers(model: keras.Model) -> Iterator[keras.Variable | tf.Variable]:
    """Yield the learning rates, and the single numbers of a model that no gradient changes and no
    metric counts.
    """
    yield from rate_variables(optimizers(model))
    metrics = {id(variable) for variable in model.metrics_variables}
    for variable in (*model.non_trainable_variables, *plain_variables(model)):
        single = tuple(variable.shape) == () and id(variable) not in metrics
        if single and "float" in keras.backend.standardize_dtype(variable.dtype):
            yield variable


def _has_batch_hooks(callback: keras.callbacks.Callback) -> bool:
    """Say whether a callback acts between steps, and so may set something there."""
    hooks = {name: getattr(callback, name) for name in BATCH_HOOKS}
    inherited = keras.callbacks.Callback
    return any(
        getattr(hook, "__func__", hook) is not getattr(inherited, name)
        for name, hook in hooks.items()
    )
