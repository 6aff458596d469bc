"""What the models of a script reached: whether they are finite after `fit`, and what `evaluate`
and `predict` gave outside of it.
"""

import functools
import sys
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any

from nanfix.model.user_code import user_line

if TYPE_CHECKING:
    import keras

METHODS = ("evaluate", "predict")


def is_finite(model: "keras.Model", history: Mapping[str, list[float]]) -> bool:
    """Say whether the weights of a trained model and its last loss are finite."""
    losses = [values[-1] for name, values in history.items() if name == "loss" and values]
    return _all_finite((*model.get_weights(), losses))


def watch_use(
    keras: ModuleType, note: Callable[[str, str | None, bool], None], apart: Callable[[], bool]
) -> None:
    """Have `evaluate` and `predict` note when the script calls them: by which name, from which line
    of the user's, and whether the result is finite.

    Args:
        apart: says whether a call is no concern of the script's own.
    """
    inside: list[str] = []
    for method in METHODS:
        setattr(
            keras.Model, method, _noted(method, getattr(keras.Model, method), note, apart, inside)
        )


def _noted(
    method: str,
    original: Callable[..., Any],
    note: Callable[[str, str | None, bool], None],
    apart: Callable[[], bool],
    inside: list[str],
) -> Callable[..., Any]:
    @functools.wraps(original)
    def used(model, *args, **kwargs):
        if inside or apart():
            return original(model, *args, **kwargs)
        inside.append(method)
        try:
            result = original(model, *args, **kwargs)
        finally:
            inside.pop()
        note(method, user_line(sys._getframe(1)), _all_finite(_parts(result)))
        return result

    return used


def _parts(result: Any) -> list[Any]:
    """Return the arrays and numbers in what Keras gives, however it is nested."""
    if isinstance(result, Mapping):
        result = list(result.values())
    if isinstance(result, list | tuple):
        return [part for each in result for part in _parts(each)]
    return [result]


def _all_finite(values: Any) -> bool:
    import numpy as np

    arrays = map(np.asarray, values)
    return all(bool(np.isfinite(each).all()) for each in arrays if each.dtype.kind not in "iubSUO")
