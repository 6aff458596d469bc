"""Let a training that goes on from a snapshot look to the user's callbacks as if it had
never stopped.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import MappingProxyType
from typing import Any

import keras

from nanfix.data.training_data import TrainingData
from nanfix.model.object_state import remember
from nanfix.model.snapshot import nonfinite_variables, restore, take
from nanfix.model.undo import override
from nanfix.model.user_code import name_of
from nanfix.recorder._event_files import forget
from nanfix.recorder.logs import listed

WRITERS = (
    keras.callbacks.BackupAndRestore,
    keras.callbacks.CSVLogger,
    keras.callbacks.ModelCheckpoint,
    keras.callbacks.TensorBoard,
)

PUT_BACK = (
    "on_train_end of {} set weights to numbers that are not finite; the model has those from "
    "before. Mend that callback: without nanfix it ruins the model."
)
NOTHING: Mapping[str, int] = MappingProxyType({})
States = Iterable[tuple[Any, dict[str, Any]]]


def user_callbacks(data: TrainingData) -> list[keras.callbacks.Callback]:
    """Return the user's callbacks as a list, in whatever form they were given."""
    return listed((data.arguments or {}).get("callbacks"))


def without_writers(
    callbacks: Sequence[keras.callbacks.Callback],
) -> list[keras.callbacks.Callback]:
    """Return the callbacks but for those of Keras that only write files: what they wrote is of a
    later training already.
    """
    return [callback for callback in callbacks if not isinstance(callback, WRITERS)]


def broken_off(callbacks: Sequence[keras.callbacks.Callback]) -> None:
    """Let TensorBoard close its files when a training ends before its time, so that nothing is left
    to be written to them.
    """
    for callback in callbacks:
        if isinstance(callback, keras.callbacks.TensorBoard):
            callback.on_train_end()


def logged(callbacks: Sequence[keras.callbacks.Callback]) -> dict[str, int]:
    """Return how many lines the files of CSVLoggers that append hold before a training:
    these are of earlier ones.
    """
    appending = [
        c
        for c in callbacks
        if isinstance(c, keras.callbacks.CSVLogger) and c.append and Path(c.filename).exists()
    ]
    return {logger.filename: len(_lines(logger)) for logger in appending}


def still_training(
    callbacks: Sequence[keras.callbacks.Callback],
) -> tuple[keras.callbacks.Callback, ...]:
    """Return the callbacks, each once, that were told of no end when a training was broken off."""
    return tuple(
        {id(c): c for c in callbacks if not isinstance(c, keras.callbacks.TensorBoard)}.values()
    )


def resumed(
    callbacks: Sequence[keras.callbacks.Callback],
    states: States,
    epoch: int,
    *,
    rolled_back: float | None,
    begun: Sequence[keras.callbacks.Callback],
    during: ExitStack,
    earlier: Mapping[str, int] = NOTHING,
) -> list[keras.callbacks.Callback]:
    """Return the callbacks to train with from `epoch` on.

    Those in `begun` have gone through the training that was rolled back: until `during` is closed
    they are not told that another begins, and so keep what they know, their files and their runs.
    Others begin anew and go on with `states`, since Keras' callbacks forget everything when a
    training begins. A CSVLogger's file loses the rows of the epochs that are trained again, and
    only those; so do the files of TensorBoard after a rollback. BackupAndRestore, which would load
    a state of its own, only backs up; after a rollback, when the weights may be meant for scaled
    data, it only deletes its files at the end. A callback with a method `on_rollback(epoch)` is
    told of one.

    Args:
        rolled_back: when the state was reached that the training was rolled back to, in seconds
            since 1970; None when it was not.
        earlier: what `logged` returned before the training began.
    """
    going_on = {id(callback) for callback in begun}
    for callback in callbacks:
        if isinstance(callback, keras.callbacks.CSVLogger):
            _cut(callback, epoch, earlier.get(callback.filename, 0))
        if rolled_back is not None and isinstance(callback, keras.callbacks.TensorBoard):
            forget(callback, rolled_back)
        hears = getattr(callback, "on_rollback", None)
        if rolled_back is not None and hears is not None:
            hears(epoch)
        if id(callback) in going_on:
            override(during, callback, "on_train_begin", _ignore)
    anew = [callback for callback in callbacks if id(callback) not in going_on]
    wrapped = [
        _Backup(callback, rolled_back is not None)
        if isinstance(callback, keras.callbacks.BackupAndRestore)
        else callback
        for callback in callbacks
    ]
    known = {id(callback) for callback in anew}
    loggers = [callback for callback in anew if isinstance(callback, keras.callbacks.CSVLogger)]
    return [
        *wrapped,
        _Reminder(
            [(callback, state) for callback, state in states if id(callback) in known], loggers
        ),
    ]


def put_off_end(callbacks: Sequence[keras.callbacks.Callback], during: ExitStack) -> None:
    """Tell callbacks of no end of a training until `during` is closed: whether the
    training counts is judged after it.

    EarlyStopping restores its best weights then, which are what is judged, and TensorBoard's files
    are closed each time.
    """
    for callback in callbacks:
        if not isinstance(callback, keras.callbacks.EarlyStopping | keras.callbacks.TensorBoard):
            override(during, callback, "on_train_end", _ignore)


def end(
    model: keras.Model,
    callbacks: Sequence[keras.callbacks.Callback],
    history: Mapping[str, Sequence[float]],
) -> list[str]:
    """Tell callbacks of the end of a training, with the last figures of its history.

    Returns:
        A sentence about each that has set finite weights to NaN; they are put back.
    """
    put_back = []
    for callback in callbacks:
        before = take(model)
        callback.on_train_end({name: values[-1] for name, values in history.items() if values})
        if before is not None and nonfinite_variables(model):
            restore(before)
            put_back.append(PUT_BACK.format(name_of(callback)))
    return put_back


def _ignore(logs: object = None) -> None:
    """Stand in for a method of a callback that is in the midst of a training."""


class _Reminder(keras.callbacks.Callback):
    """Comes after the user's callbacks, so that what they reset when the training
    begins is put back.
    """

    def __init__(self, states: States, loggers: Sequence[keras.callbacks.CSVLogger]):
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
    """A BackupAndRestore that does not restore, and backs up only where its files will
    mean what it says.
    """

    def __init__(self, backup: keras.callbacks.BackupAndRestore, rolled_back: bool):
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


def _lines(logger: keras.callbacks.CSVLogger) -> list[bytes]:
    """Return the lines of a CSVLogger's file, ends included."""
    return Path(logger.filename).read_bytes().splitlines(keepends=True)


def _cut(logger: keras.callbacks.CSVLogger, epoch: int, earlier: int) -> None:
    """Take from the end of a CSVLogger's file the rows of `epoch` and later, trained
    again, but no `earlier` line.
    """
    opened = None if logger.csv_file is None or logger.csv_file.closed else logger.csv_file
    if opened is not None:
        opened.flush()
    if not Path(logger.filename).exists():
        return
    lines, following = _lines(logger), None
    while len(lines) > max(earlier, 1):
        first = lines[-1].decode(errors="replace").split(logger.sep)[0].strip()
        if first and not first.isdigit():
            break
        if first:
            row = int(first)
            # Rows of an earlier training stay.
            if row < epoch or (following is not None and row != following - 1):
                break
            following = row
        lines.pop()
    # The callback may hold the file open: it is cut, not replaced.
    with Path(logger.filename).open("r+b") as file:
        file.truncate(sum(map(len, lines)))
    if opened is not None:
        opened.seek(0, os.SEEK_END)
