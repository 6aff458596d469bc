"""Keep what nanfix computes for itself from talking: Python's warnings, TensorFlow's
log, its start lines.
"""

import importlib.util
import logging
import os
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import SourceFileLoader

TENSORFLOW, LEVEL = "tensorflow", "TF_CPP_MIN_LOG_LEVEL"
LOGGERS = (TENSORFLOW, "absl")


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
    with _no_lines():
        importlib.import_module(TENSORFLOW)


def let_tensorflow_load_quietly() -> None:
    """Have TensorFlow loaded as `load_tensorflow` does, when and if somebody imports it; leave it
    alone where the user has asked for its log by setting `TF_CPP_MIN_LOG_LEVEL`.
    """
    if LEVEL not in os.environ:
        sys.meta_path.insert(0, _QuietImport())


class _QuietImport(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name != TENSORFLOW:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader.exec_module = _no_lines()(spec.loader.exec_module)  # type: ignore[method-assign]
        return spec


@contextmanager
def _no_lines() -> Iterator[None]:
    """Throw away what is written to the process's stderr, unless an exception comes of it."""
    # For those that come later; what matters is raised, too.
    os.environ.setdefault(LEVEL, "3")
    with tempfile.TemporaryFile() as lines:
        kept = os.dup(2)
        os.dup2(lines.fileno(), 2)
        try:
            yield
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
