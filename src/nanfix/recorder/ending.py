"""End a training that no fix could mend as Keras would have ended it: every epoch in the history,
every callback told.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import keras

from nanfix.data.training_data import TrainingData
from nanfix.model.object_state import remember
from nanfix.model.undo import put
from nanfix.recorder.callbacks import user_callbacks
from nanfix.recorder.watch import Watched

# At the end of a training it deletes what it has saved, which is still finite here.
KEEPS = keras.callbacks.BackupAndRestore


def ended(
    model: keras.Model, data: TrainingData, watched: Watched
) -> tuple[dict[str, list[float]], list[int]]:
    """Give callbacks and history the epochs that plain Keras would have gone on with,
    and end the training.

    Nothing is trained: the weights would be NaN. So every figure of these epochs is NaN, which for
    the loss is what Keras gives, and for a metric says that it was not measured. A callback that
    stops the training stops it here, too.

    Returns:
        The whole history, and its epochs.
    """
    assert watched.incident is not None
    log = _history_of(model, watched)
    model.stop_training = False
    with _boards(model, data) as boards:
        # Of the failed training: a fix that was trained with has taught them other things.
        remember(watched.knew)
        _end(model, data, watched, (*watched.begun, *boards), log)
    return log.history, log.epoch


@contextmanager
def _boards(model: keras.Model, data: TrainingData) -> Iterator[list[keras.callbacks.TensorBoard]]:
    """Open again the files of the user's TensorBoards, which were closed when the training broke
    off; they are told neither of the graph nor of the weights, which have stayed as they were.
    """
    boards = [c for c in user_callbacks(data) if isinstance(c, keras.callbacks.TensorBoard)]
    with ExitStack() as during:
        for board in boards:
            for name in ("write_graph", "histogram_freq", "embeddings_freq"):
                put(during, board, name, 0)
            board.set_model(model)
            board.on_train_begin()
        yield boards


def _end(
    model: keras.Model,
    data: TrainingData,
    watched: Watched,
    callbacks: Sequence[keras.callbacks.Callback],
    log: keras.callbacks.History,
) -> None:
    """Tell callbacks of every epoch that is left, and of the end."""
    assert watched.incident is not None
    onset = watched.incident.detected
    if watched.incident.logged:
        for callback in callbacks:
            callback.on_train_batch_end(onset.step - 1, _nothing(watched.recorder.logged))
    failed = onset.epoch - 1
    left = range(failed, data.epochs) if failed not in watched.epoch else range(0)
    logs: dict[str, float] = {}
    for epoch in left:
        if epoch > failed:
            if model.stop_training:
                break
            for callback in callbacks:
                callback.on_epoch_begin(epoch, {})
        logs = _nothing(_names(data, watched, epoch))
        for callback in (*callbacks, log):
            callback.on_epoch_end(epoch, logs)
    for callback in callbacks:
        if not isinstance(callback, KEEPS):
            callback.on_train_end(dict(logs))


def _history_of(model: keras.Model, watched: Watched) -> keras.callbacks.History:
    """Return a History that has seen the training as far as it went."""
    log = keras.callbacks.History()
    log.set_model(model)
    log.params = dict(watched.params)
    log.history, log.epoch = (
        {name: list(values) for name, values in watched.history.items()},
        list(watched.epoch),
    )
    model.history = log
    return log


def _nothing(names: Sequence[str]) -> dict[str, float]:
    return dict.fromkeys(names, math.nan)


def _names(data: TrainingData, watched: Watched, epoch: int) -> list[str]:
    """Return the names of what Keras would log of an epoch: as in the steps, and of the
    validation where there is one.
    """
    trained = (
        list(watched.recorder.logged)
        or [name for name in watched.history if not name.startswith("val_")]
        or ["loss"]
    )
    validates = data.validation_data is not None or bool(data.validation_split)
    often = (data.arguments or {}).get("validation_freq", 1)
    due = (epoch + 1) % often == 0 if isinstance(often, int) else epoch + 1 in often
    return [*trained, *(f"val_{name}" for name in trained if validates and due)]
