"""Saving the user's model in a repaired training: files hold the model as it will be
handed back.
"""

import functools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from nanfix.model.undo import override

if TYPE_CHECKING:
    import keras

Moment = Callable[[], AbstractContextManager[None]]
SAVING = ("save", "save_weights", "export")


@contextmanager
def saving_in(model: "keras.Model", moment: Moment) -> Iterator[None]:
    """Let all that saves the model inside the `with` block do so in a moment in which it is what it
    will be handed back as.

    Whoever saves it, ModelCheckpoint or a callback of the user's, decides when, where and what.
    """
    saving: list[bool] = []

    def through(save: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(save)
        def saved(*args: Any, **kwargs: Any) -> Any:
            if saving:  # one that calls another
                return save(*args, **kwargs)
            saving.append(True)
            try:
                with moment():
                    return save(*args, **kwargs)
            finally:
                saving.pop()

        return saved

    with ExitStack() as during:
        for name in SAVING:
            override(during, model, name, through(getattr(model, name)))
        yield
