"""Sends what CSVLogger and TensorBoard log somewhere else for a while. Loads Keras alone."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras

# Where each writes.
LOGS = {keras.callbacks.CSVLogger: "filename", keras.callbacks.TensorBoard: "log_dir"}


def listed(given: Any) -> list[keras.callbacks.Callback]:
    """Return as a list what fit was given as callbacks: a CallbackList, one, several or none."""
    return keras.tree.flatten(getattr(given, "callbacks", given) or [])


@contextmanager
def logging_to(folder: Path, callbacks: Sequence[keras.callbacks.Callback]) -> Iterator[None]:
    """Let CSVLogger and TensorBoard write into `folder` for a while; what they have written
    elsewhere stays as it is.
    """
    moved = []
    for number, callback in enumerate(callbacks):
        attribute = next((name for kind, name in LOGS.items() if isinstance(callback, kind)), None)
        if attribute is not None:
            before = getattr(callback, attribute)
            moved.append((callback, attribute, before))
            setattr(callback, attribute, str(folder / f"{number}-{Path(before).name}"))
    try:
        yield
    finally:
        for callback, attribute, before in moved:
            setattr(callback, attribute, before)
