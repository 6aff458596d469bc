"""Keras' own `fit` while nanfix trains in its place, and the History that its caller gets."""

import contextlib
from collections.abc import Callable, Iterator
from types import MethodType
from typing import TYPE_CHECKING, Any

from nanfix.scripts._watched_fit import Apart

if TYPE_CHECKING:
    from keras import Model
    from keras.callbacks import History

    from nanfix.report.report import Report

KerasFit = Callable[..., Any]  # Keras' own `Model.fit`, the model first


@contextlib.contextmanager
def keras_own_fit(model: "Model", original: KerasFit, apart: Apart) -> Iterator[None]:
    """Let every `fit` inside be Keras' own, also on a model whose class overrides fit and called us
    by super().
    """
    import keras

    overridden = type(model).fit is not keras.Model.fit
    if overridden:
        model.__dict__["fit"] = MethodType(original, model)
    try:
        with apart.fitting():
            yield
    finally:
        if overridden:
            model.__dict__.pop("fit", None)


def history_of(model: "Model", report: "Report") -> "History":
    """Return the History object that the caller of `fit` expects, with the epochs of a report."""
    import keras

    from nanfix.report.report import Outcome

    history = getattr(model, "history", None)
    if not isinstance(history, keras.callbacks.History):
        history = keras.callbacks.History()
        history.set_model(model)
        model.history = history
    if report.outcome not in (Outcome.HEALTHY, Outcome.DIVERGED):
        history.history, history.epoch, history.params = (
            dict(report.history),
            list(report.epoch),
            dict(report.params),
        )
    return history
