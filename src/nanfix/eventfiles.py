"""Take out of TensorBoard's event files what a rollback has undone, so that they hold every epoch once."""

import os
from typing import Any

import tensorflow as tf

GRAPH = "keras"  # the tag of the model's graph, which each training writes anew


def forget(board: Any, since: float) -> None:
    """Delete what this process has written for a TensorBoard callback after the time `since`, in seconds since 1970.

    Its writers have to be closed. Files of other processes are left alone; a file with nothing left to say is deleted.
    """
    for folder in (os.path.join(board.log_dir, part) for part in ("train", "validation")):
        for name in tf.io.gfile.listdir(folder) if tf.io.gfile.isdir(folder) else ():
            if ".tfevents." in name and f".{os.getpid()}." in name:
                _cut(os.path.join(folder, name), since)


def _cut(path: str, since: float) -> None:
    records = list(tf.data.TFRecordDataset(path).as_numpy_iterator())
    events = list(map(tf.compat.v1.Event.FromString, records))
    kept = [record for record, event in zip(records, events, strict=True) if event.wall_time <= since]
    if len(kept) == len(records):
        return
    if not any(value.tag != GRAPH for event in events if event.wall_time <= since for value in event.summary.value):
        tf.io.gfile.remove(path)
        return
    part = f"{os.path.dirname(path)}/.nanfix.part"
    with tf.io.TFRecordWriter(part) as writer:
        for record in kept:
            writer.write(record)
    tf.io.gfile.rename(part, path, overwrite=True)
