"""The user's ModelCheckpoint in a repaired training: its files hold the model as it will be handed back."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import keras

Moment = Callable[[], AbstractContextManager[None]]


class Checkpoint(keras.callbacks.Callback):
    """A ModelCheckpoint that saves in a moment in which the model is what it will be handed back as.

    Where there is no such moment, because layers will be added, it saves nothing: `save_after_all` does, in the end.
    """

    def __init__(self, checkpoint: Any, moment: Moment | None):
        super().__init__()
        self._checkpoint, self._moment = checkpoint, moment

    def set_params(self, params):
        super().set_params(params)
        self._checkpoint.set_params(params)

    def set_model(self, model):
        super().set_model(model)
        self._checkpoint.set_model(model)

    def on_train_batch_end(self, batch, logs=None):
        if self._moment is not None and self._checkpoint.save_freq != "epoch":
            with self._moment():
                self._checkpoint.on_train_batch_end(batch, logs)

    def on_epoch_begin(self, epoch, logs=None):
        self._checkpoint.on_epoch_begin(epoch, logs)

    def on_epoch_end(self, epoch, logs=None):
        if self._moment is not None:
            with self._moment():
                self._checkpoint.on_epoch_end(epoch, logs)


def wrapped(callbacks: Sequence[Any], moment: Moment | None) -> list[Any]:
    """Return the callbacks with every ModelCheckpoint in such a wrapping."""
    return [Checkpoint(c, moment) if isinstance(c, keras.callbacks.ModelCheckpoint) else c for c in callbacks]


def save_after_all(callbacks: Sequence[Any], model: Any, history: Mapping[str, Sequence[float]], epochs: Sequence[int]) -> None:
    """Let every ModelCheckpoint save the model as it is now, under the name of the last epoch."""
    if not epochs:
        return
    logs = {name: values[-1] for name, values in history.items() if values}
    for callback in callbacks:
        if isinstance(callback, keras.callbacks.ModelCheckpoint):
            path = str(callback.filepath).format(epoch=epochs[-1] + 1, **logs)
            (model.save_weights if callback.save_weights_only else model.save)(path, overwrite=True)
