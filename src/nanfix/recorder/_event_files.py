"""Take out of TensorBoard's event files what a rollback has undone, so that they hold
every epoch once.
"""

import os
from typing import TYPE_CHECKING, Any

import tensorflow as tf

if TYPE_CHECKING:
    import keras

GRAPH = "keras"  # the tag of the model's graph, which each training writes anew


def files(board: "keras.callbacks.TensorBoard") -> list[str]:
    """Return the event files that this process has written for a TensorBoard callback."""
    folders = [os.path.join(board.log_dir, part) for part in ("train", "validation")]
    found = [
        (folder, name)
        for folder in folders
        if tf.io.gfile.isdir(folder)
        for name in tf.io.gfile.listdir(folder)
    ]
    return [
        os.path.join(*path)
        for path in found
        if ".tfevents." in path[1] and f".{os.getpid()}." in path[1]
    ]


def forget(board: "keras.callbacks.TensorBoard", since: float) -> None:
    """Delete what this process has written for a TensorBoard callback after the time
    `since`, in seconds since 1970.

    Its writers have to be closed. A file with nothing left to say is deleted.
    """
    for path in files(board):
        _cut(path, since)


def _cut(path: str, since: float) -> None:
    records: list[Any] = list(tf.data.TFRecordDataset(path).as_numpy_iterator())
    events = list(map(tf.compat.v1.Event.FromString, records))
    kept = [
        record for record, event in zip(records, events, strict=True) if event.wall_time <= since
    ]
    if len(kept) == len(records):
        return
    if not any(
        value.tag != GRAPH
        for event in events
        if event.wall_time <= since
        for value in event.summary.value
    ):
        tf.io.gfile.remove(path)
        return
    part = f"{os.path.dirname(path)}/.nanfix.part"
    with tf.io.TFRecordWriter(part) as writer:
        for record in kept:
            writer.write(record)
    tf.io.gfile.rename(part, path, overwrite=True)
