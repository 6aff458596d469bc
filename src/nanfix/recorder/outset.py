"""What the trainings of a model began with: a loop trains it a little in each of many fit calls."""

import math
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, WeakSet

from nanfix.model.crossentropies import crossentropy_of
from nanfix.private.objects import compile_config, given_loss
from nanfix.recorder.recording import EXPLODED, GREW, TIMES_THE_FIRST, Recording

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class Outset:
    """The loss in the first step of a model's first training, and the norm of its weights there."""

    loss: float
    weight_norm: float

    def has_grown(self, loss: float, model: "keras.Model") -> bool:
        """Say whether a loss of now is thousands of times as large, or a crossentropy, which for
        shares of classes is never negative, has fallen far below 0.
        """
        negative = loss < 0.0 and crossentropy_of(given_loss(model)) is not None
        times = EXPLODED if negative else TIMES_THE_FIRST
        # A loss that began with next to nothing and is negative now may be a measure without scale.
        first = max(abs(self.loss), 1.0) if loss < 0.0 else abs(self.loss)
        return first > 0.0 and abs(loss) > times * first

    def has_outgrown(self, weight_norm: float) -> bool:
        """Say whether the weights of now are many times as large."""
        return weight_norm > GREW * self.weight_norm


_falling: "WeakSet[keras.Model]" = WeakSet()  # models whose loss has been seen to fall for ever
# What each model was compiled with, and the outset of its trainings since.
_known: "WeakKeyDictionary[keras.Model, tuple[Any, Outset]]" = WeakKeyDictionary()


def falls_for_ever(model: "keras.Model") -> bool:
    """Say whether the loss of a model has been seen to fall for ever, whatever steps it took."""
    return model in _falling


def seen_falling(model: "keras.Model") -> None:
    """Remember that the loss of a model falls for ever."""
    _falling.add(model)


def outset(model: "keras.Model", recording: Recording) -> Outset | None:
    """Return what the trainings of a model began with since it was compiled, this one the first
    where no other is known; None where that was not finite.
    """
    compiled = compile_config(model)
    since, known = _known.get(model, (None, None))
    same = known is not None and (since and since()) is compiled
    if same or not recording.snapshots:
        return known if same else None
    initial = recording.initial
    found = Outset(recording.loss_at.get(initial.total, math.nan), initial.weight_norm)
    if not (math.isfinite(found.loss) and math.isfinite(found.weight_norm)):
        return None
    _known[model] = compiled and weakref.ref(compiled), found
    return found
