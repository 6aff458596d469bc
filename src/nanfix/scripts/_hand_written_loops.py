"""Notices training that does not go through `model.fit`: a loop written by hand, with
GradientTape or train_on_batch.
"""

import contextlib
import functools
import sys
import threading
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

LOOP = (
    "{place} trains in a loop of its own (GradientTape or train_on_batch), which is not watched: "
    "what goes NaN there is neither explained nor repaired, and no fix changes it; calls of "
    "model.fit in the same script are repaired as ever. To have the loop repaired too, make its "
    "step the train_step of a keras.Model and call fit."
)


class LoopWatch:
    """Says once, with its place, that an optimizer was applied outside of every `fit`."""

    def __init__(self, note: Callable[[str], None]):
        self._note = note
        # Under way, in whatever thread: a distribution strategy applies its optimizer in others.
        self._fits = 0
        self._lock = threading.Lock()
        self._noticed = False

    @contextlib.contextmanager
    def fitting(self) -> Iterator[None]:
        """Tell that inside a `fit` is under way, to which every application of an
        optimizer belongs.
        """
        with self._lock:
            self._fits += 1
        try:
            yield
        finally:
            with self._lock:
                self._fits -= 1

    def install(self, keras: ModuleType) -> None:
        """Listen at what such loops call, until one of them was noticed."""
        import tensorflow as tf

        # A GradientTape loop ends in the optimizer; train_on_batch gets there only when the model
        # has not been traced before.
        originals = {(owner, name): getattr(owner, name) for owner, name in _calls(keras)}

        def listening(original: Callable[..., Any]) -> Callable[..., Any]:
            @tf.autograph.experimental.do_not_convert  # what is traced stays Keras' own code
            @functools.wraps(original)
            def listener(*args: Any, **kwargs: Any) -> Any:
                if not self._fits and not self._noticed:
                    from nanfix.model.user_code import user_line

                    self._noticed = True
                    for (owner, name), own in originals.items():
                        setattr(owner, name, own)
                    self._note(LOOP.format(place=user_line(sys._getframe(1)) or "The script"))
                return original(*args, **kwargs)

            return listener

        for (owner, name), original in originals.items():
            setattr(owner, name, listening(original))


def _calls(keras: ModuleType) -> tuple[tuple[type, str], ...]:
    return (keras.optimizers.Optimizer, "apply"), (keras.Model, "train_on_batch")
