"""A run that was killed: how a training goes on from it, and what it had logged."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import keras

from nanfix.model.snapshot import remember_unset, restore, state_variables
from nanfix.recorder._retention import Shelf
from nanfix.recorder.snapshot_files import Saved, joined


@dataclass(frozen=True)
class KilledRun:
    """The initial and the newest snapshot that it has left on disk."""

    initial: Saved
    newest: Saved

    def put_back(
        self, model: keras.Model, callbacks: Sequence[keras.callbacks.Callback], shelf: Shelf
    ) -> int:
        """Bring a model to the newest state, and begin the shelf with both; return the steps that
        were taken before it.
        """
        variables = state_variables(model)
        initial, newest = (
            saved.bound(variables, callbacks) for saved in (self.initial, self.newest)
        )
        remember_unset(model, initial.variables, initial.tensors)
        shelf.begin_with(initial, newest)
        # The callbacks were reminded when the training began, and have gone on since.
        restore(replace(newest, callbacks=()))
        return newest.total


def history_of(
    model: keras.Model | None, killed: KilledRun | None
) -> tuple[dict[str, list[float]], list[int]]:
    """Return history and epochs up to now, those before a kill included."""
    history = getattr(model, "history", None)
    return joined(
        None if killed is None else killed.newest,
        getattr(history, "history", {}),
        getattr(history, "epoch", []),
    )
