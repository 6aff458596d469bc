"""Let a training that goes on from a snapshot look to the user's callbacks as if it had never stopped."""

import csv
import io
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import keras

from nanfix.data import TrainingData
from nanfix.eventfiles import forget
from nanfix.plain import remember

WRITERS = tuple(getattr(keras.callbacks, name) for name in ("CSVLogger", "ModelCheckpoint", "BackupAndRestore", "TensorBoard"))

States = Iterable[tuple[Any, dict[str, Any]]]


def user_callbacks(data: TrainingData) -> list[Any]:
    """Return the user's callbacks as a list, in whatever form they were given."""
    given = (data.arguments or {}).get("callbacks")
    return keras.tree.flatten(getattr(given, "callbacks", given) or [])


def without_writers(callbacks: Sequence[Any]) -> list[Any]:
    """Return the callbacks but for those of Keras that only write files: what they wrote is of a later training already."""
    return [callback for callback in callbacks if not isinstance(callback, WRITERS)]


def broken_off(callbacks: Sequence[Any]) -> None:
    """Let TensorBoard close its files when a training ends before its time, so that nothing is left to be written to them."""
    for callback in callbacks:
        if isinstance(callback, keras.callbacks.TensorBoard):
            callback.on_train_end()


def resumed(callbacks: Sequence[Any], states: States, epoch: int, *, rolled_back: float | None = None) -> list[Any]:
    """Return the callbacks to train with from `epoch` on.

    Keras' callbacks forget everything when a training begins; these go on with `states`. A CSVLogger's file loses the
    rows of the epochs that are trained again, and only those; so do the files of TensorBoard after a rollback.
    BackupAndRestore, which would load a state of its own, only backs up; after a rollback, when the weights may be meant
    for scaled data, it only deletes its files at the end. A callback with a method `on_rollback(epoch)` is told of one.

    Args:
        rolled_back: when the state was reached that the training was rolled back to, in seconds since 1970; None when it was not.
    """
    for callback in callbacks:
        if isinstance(callback, keras.callbacks.CSVLogger):
            _cut(callback, epoch)
        if rolled_back is not None and isinstance(callback, keras.callbacks.TensorBoard):
            forget(callback, rolled_back)
        if rolled_back is not None and hasattr(callback, "on_rollback"):
            callback.on_rollback(epoch)
    told = [
        _Backup(callback, rolled_back is not None) if isinstance(callback, keras.callbacks.BackupAndRestore) else callback
        for callback in callbacks
    ]
    return [*told, _Reminder(states, [c for c in callbacks if isinstance(c, keras.callbacks.CSVLogger)])]


class _Reminder(keras.callbacks.Callback):
    """Comes after the user's callbacks, so that what they reset when the training begins is put back."""

    def __init__(self, states: States, loggers: Sequence[Any]):
        super().__init__()
        self._states = [(callback, state) for callback, state in states if callback not in loggers]
        self._append = [(logger, logger.append) for logger in loggers]
        for logger in loggers:
            logger.append = True

    def on_train_begin(self, logs=None):
        remember(self._states)
        for logger, append in self._append:
            logger.append = append


class _Backup(keras.callbacks.Callback):
    """A BackupAndRestore that does not restore, and backs up only where its files will mean what it says."""

    def __init__(self, backup: Any, rolled_back: bool):
        super().__init__()
        self._backup, self._backs_up = backup, not rolled_back

    def set_model(self, model):
        super().set_model(model)
        self._backup.set_model(model)

    def on_train_batch_end(self, batch, logs=None):
        if self._backs_up:
            self._backup.on_train_batch_end(batch, logs)

    def on_epoch_end(self, epoch, logs=None):
        if self._backs_up:
            self._backup.on_epoch_end(epoch, logs)

    def on_train_end(self, logs=None):
        self._backup.on_train_end(logs)


def _cut(logger: Any, epoch: int) -> None:
    """Take from the end of a CSVLogger's file the rows of `epoch` and later, which will be trained again."""
    path = Path(logger.filename)
    if not path.exists() or not path.stat().st_size:
        return
    with path.open(newline="") as file:
        lines = [row for row in csv.reader(file, delimiter=logger.sep) if row]
    following = None
    while len(lines) > 1 and lines[-1][0].isdigit():
        row = int(lines[-1][0])
        if row < epoch or (following is not None and row != following - 1):  # rows of an earlier training stay
            break
        following = row
        lines.pop()
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=logger.sep).writerows(lines)
    part = path.with_name(path.name + ".part")
    part.write_text(text.getvalue(), newline="")
    os.replace(part, path)
