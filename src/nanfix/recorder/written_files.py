"""What the user's callbacks have written until a training was rolled back: put back
when no fix works.
"""

import glob
import os
import re
import shutil
import tempfile
import weakref
from collections.abc import Iterator, Sequence

import keras

from nanfix.recorder._event_files import files

PLACEHOLDER = re.compile(r"\{[^{}]*\}")  # of a ModelCheckpoint's path, such as {epoch:02d}


class Written:
    """Copies of the local files of CSVLogger, ModelCheckpoint and TensorBoard, from before the
    first fix was trained with.

    A fix that fails writes over them. Files of a ModelCheckpoint that came later are left: they may
    be another program's.
    """

    def __init__(self, callbacks: Sequence[keras.callbacks.Callback]):
        self._callbacks = callbacks
        self._folder: str | None = None
        self._copies: dict[str, str] = {}

    def keep(self) -> None:
        """Copy the files; what was kept once stays."""
        if self._folder is not None:
            return
        self._folder = tempfile.mkdtemp(prefix="nanfix-written-")
        weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        for number, path in enumerate(_files(self._callbacks)):
            self._copies[path] = shutil.copyfile(path, os.path.join(self._folder, str(number)))

    def put_back(self) -> None:
        """Give the files the content that was kept."""
        if self._folder is None:
            return
        for board in (
            callback
            for callback in self._callbacks
            if isinstance(callback, keras.callbacks.TensorBoard)
        ):
            for path in files(board):
                if path not in self._copies and os.path.isfile(path):
                    os.remove(path)
        for path, copy in self._copies.items():
            shutil.copyfile(copy, path)  # into the same file: a logger may have it open
        for logger in (
            callback
            for callback in self._callbacks
            if isinstance(callback, keras.callbacks.CSVLogger)
        ):
            if logger.csv_file is not None and not logger.csv_file.closed:
                logger.csv_file.seek(0, os.SEEK_END)


def _files(callbacks: Sequence[keras.callbacks.Callback]) -> Iterator[str]:
    for callback in callbacks:
        if isinstance(callback, keras.callbacks.CSVLogger):
            found = [callback.filename]
        elif isinstance(callback, keras.callbacks.ModelCheckpoint):
            found = glob.glob("*".join(map(glob.escape, PLACEHOLDER.split(str(callback.filepath)))))
        else:
            found = files(callback) if isinstance(callback, keras.callbacks.TensorBoard) else []
        yield from filter(os.path.isfile, found)
