"""Keep what nanfix computes for itself from talking: Python's warnings, TensorFlow's
log, its start lines.
"""

import importlib
import logging
import os
import tempfile
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

LOGGERS = ("tensorflow", "absl")


class _Depth(threading.local):
    """How many `quiet` blocks this thread is in."""

    now = 0


_depth, _lock = _Depth(), threading.Lock()
_threads = 0  # that are in a quiet block


class _ByThread(type):
    def __subclasscheck__(cls, kind: type) -> bool:
        return _depth.now > 0


class _Unheard(Warning, metaclass=_ByThread):
    """The category of every warning in a quiet thread, and of none in another."""


class _LogFilter(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return _depth.now == 0


# Put among Python's filters as it is: simplefilter and catch_warnings would let every warning that
# was shown once be shown anew.
_IGNORE = ("ignore", None, _Unheard, None, 0)
_SILENCE = _LogFilter()


@contextmanager
def quiet() -> Iterator[None]:
    """Let no warning and no log line of TensorFlow and Keras out of this thread; as a
    decorator, of a function.
    """
    before, _depth.now = _depth.now, _depth.now + 1
    if not before:
        _count(1)
    try:
        yield
    finally:
        _depth.now = before
        if not before:
            _count(-1)


@contextmanager
def heard() -> Iterator[None]:
    """Let what is the user's own, inside of something quiet, be heard."""
    before, _depth.now = _depth.now, 0
    try:
        yield
    finally:
        _depth.now = before


def load_tensorflow() -> None:
    """Import TensorFlow without the lines that its C++ code writes meanwhile, which no
    setting turns off.

    For programs of nanfix's own alone: these lines belong to whoever imports TensorFlow. An import
    that fails is shown.
    """
    # For those that come later; what matters is raised, too.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with tempfile.TemporaryFile() as lines:
        kept = os.dup(2)
        os.dup2(lines.fileno(), 2)
        try:
            importlib.import_module("tensorflow")
        except BaseException:
            lines.seek(0)
            os.write(kept, lines.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def _count(change: int) -> None:
    global _threads
    with _lock:
        _threads += change
        if _IGNORE in warnings.filters:
            warnings.filters.remove(_IGNORE)  # type: ignore[attr-defined]
        if _threads:
            warnings.filters.insert(0, _IGNORE)  # type: ignore[attr-defined]
        for logger in map(logging.getLogger, LOGGERS):
            (logger.addFilter if _threads else logger.removeFilter)(_SILENCE)
