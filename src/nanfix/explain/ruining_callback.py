"""Which callback of the user's sets weights to numbers that are not finite."""

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from typing import Any

import keras

from nanfix.data.training_data import TrainingData
from nanfix.model.snapshot import nonfinite_variables, restore
from nanfix.model.undo import override
from nanfix.model.user_code import code_place, name_of
from nanfix.recorder.callbacks import user_callbacks
from nanfix.recorder.recording import Recording
from nanfix.recorder.watch import Watching, watch

HOOKS = (
    "on_epoch_begin",
    "on_train_batch_begin",
    "on_batch_begin",
    "on_train_batch_end",
    "on_batch_end",
    "on_test_begin",
    "on_test_end",
    "on_epoch_end",
)
AT_THE_END = "on_train_end"


class _Enough(Exception):
    """Leaves a training that has shown what it can show."""


class _Until(keras.callbacks.Callback):
    """Leaves a training once so many epochs are done."""

    def __init__(self, epochs: int):
        super().__init__()
        self._epochs = epochs

    def on_epoch_begin(self, epoch, logs=None):
        if epoch >= self._epochs:
            raise _Enough


def ruining_callback(
    model: keras.Model,
    data: TrainingData,
    recording: Recording,
    begun: Sequence[keras.callbacks.Callback],
    watching: Watching,
    *,
    failed: int,
    seconds: float,
) -> str | None:
    """Train once more from the last epoch that was recorded to the end of the one that `failed`,
    and look at the weights before and after each callback acts.

    Model and callbacks are left in the state of the newest snapshot.

    Returns:
        Which callback has made finite numbers non-finite, and where it stands; None where none has
        within `seconds`, or where the user has no callback of their own.
    """
    own = [(each, hook) for each in user_callbacks(data) for hook in _own_hooks(each)]
    if not own:
        return None
    start = recording.start_of_epoch
    found: list[str] = []
    deadline = time.perf_counter() + seconds

    def looked_at(callback: Any, name: str, hook: Callable[..., None]) -> Callable[..., None]:
        def spied(*args, **kwargs):
            before = nonfinite_variables(model)
            hook(*args, **kwargs)
            ruined = [] if before else nonfinite_variables(model)
            if ruined:
                more = f" and {len(ruined) - 1} more" if len(ruined) > 1 else ""
                words = f"sets {ruined[0]}{more} to numbers that are not finite"
                found.append(f"{_named(callback, name, hook)} {words}")
            if ruined or time.perf_counter() > deadline:
                raise _Enough

        return spied

    def until(listeners: list[keras.callbacks.Callback]) -> list[keras.callbacks.Callback]:
        return [_Until(failed), *listeners]

    quiet = replace(data, arguments={**(data.arguments or {}), "verbose": 0})
    with ExitStack() as during:
        during.callback(restore, recording.newest)
        for callback, name in own:
            override(during, callback, name, looked_at(callback, name, getattr(callback, name)))
        restore(start)
        data.rewind(start.total)
        apart = replace(watching, store=None, writes=False)
        with suppress(_Enough):
            watch(model, quiet, apart, adapt=until, start=start, begun=begun)
    return found[0] if found else None


def ruined_at_the_end(data: TrainingData) -> str | None:
    """Return which callbacks were told of the end of a training, before which weights were finite,
    and after which they are not; they are not told twice.
    """
    told = [(each, getattr(each, AT_THE_END, None)) for each in user_callbacks(data)]
    own = [_named(each, AT_THE_END, hook) for each, hook in told if hook and code_place(hook)]
    words = "sets weights to numbers that are not finite, after all steps were"
    return f"{' or '.join(own)} {words}" if own else None


def _own_hooks(callback: keras.callbacks.Callback) -> list[str]:
    """Return the hooks in which a callback does something that Keras has not written."""
    hooks = ((name, getattr(callback, name, None)) for name in HOOKS)
    return [name for name, hook in hooks if hook is not None and code_place(hook) is not None]


def _named(callback: Any, name: str, hook: Callable[..., None]) -> str:
    return f"{name_of(callback)}.{name} at {code_place(hook)}"
