"""Takes the place of Keras' `Model.fit` in a script. Loads nothing but the standard library."""

import contextlib
import functools
import inspect
import os
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType, ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from keras import Model


class Apart:
    """Says whether what is called now is called inside a `fit`, or in another process: that is no
    call of the script's own.
    """

    def __init__(self) -> None:
        self._process = os.getpid()
        self._guard = threading.local()

    def __call__(self) -> bool:
        return getattr(self._guard, "busy", False) or os.getpid() != self._process

    @contextlib.contextmanager
    def fitting(self) -> Iterator[None]:
        """Let all that this thread calls inside the `with` block be apart."""
        self._guard.busy = True
        try:
            yield
        finally:
            self._guard.busy = False


def watch_fit(
    keras: ModuleType,
    handle: Callable[["Model", Callable[..., Any], dict[str, Any], FrameType], Any],
    apart: Apart,
) -> None:
    """Have each call that the script makes of `fit` handled, given the model, Keras' own `fit`, its
    arguments by name and the frame that calls.
    """
    original = keras.Model.fit
    signature = inspect.signature(original)

    @functools.wraps(original)
    def fit(model, *args, **kwargs):
        if apart():
            return original(model, *args, **kwargs)
        try:
            arguments = dict(signature.bind(model, *args, **kwargs).arguments)
        except TypeError:
            return original(model, *args, **kwargs)  # Keras says itself what is wrong with them
        del arguments[next(iter(signature.parameters))]
        return handle(model, original, arguments, sys._getframe(1))

    keras.Model.fit = fit


def is_watched(keras: ModuleType) -> bool:
    """Say whether `watch_fit` has taken the place of `Model.fit`."""
    return keras.Model.fit.__code__.co_filename == watch_fit.__code__.co_filename
