"""What the trainings of a model began with: a loop trains it a little in each of many fit calls."""

import math
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, WeakSet

import numpy as np

from nanfix.model.crossentropies import crossentropy_of
from nanfix.model.snapshot import take_as_it_is
from nanfix.private.objects import compile_config, given_loss
from nanfix.recorder.recording import EXPLODED, GREW, TIMES_THE_FIRST, Recording

if TYPE_CHECKING:
    import keras

WENT = (
    "the loss went from {first:.3g} in the first step{of} to {last:.3g} in the last one, the norm "
    "of the weights from {before:.3g} to {now:.3g}: {helps}"
)
RISING = "a lower learning rate, or inputs and targets of unit scale, are what usually helps"
FALLING = (
    "a loss that falls for ever, as a crossentropy does of targets below 0 or above 1, has no best "
    "weights to be found"
)

PARTS = 8  # of a training, in which its loss is compared


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

    def diverged(self, recording: Recording, model: "keras.Model") -> "Divergence | None":
        """Return how the recorded training has diverged, None if it has not: loss and weights have
        grown by orders of magnitude, or the loss falls faster and faster.
        """
        if not recording.losses:
            return None
        last, now = recording.losses[-1], take_as_it_is(model).weight_norm
        grown = self.has_grown(last, model) and self.has_outgrown(now)
        series = (tuple(recording.epoch_losses.values()), recording.losses)
        return Divergence(self, last, now) if grown or any(map(falls_faster, series)) else None

    @classmethod
    def of(cls, recording: Recording) -> "Outset | None":
        """Return what this training began with; None where that was not finite."""
        if not recording.snapshots:
            return None
        initial = recording.initial
        found = cls(recording.loss_at.get(initial.total, math.nan), initial.weight_norm)
        return found if math.isfinite(found.loss) and math.isfinite(found.weight_norm) else None


@dataclass(frozen=True)
class Divergence:
    """What loss and weights of a training came to from its outset on."""

    begun: Outset
    loss: float
    weight_norm: float

    def sentence(self, of: str = "") -> str:
        """Return it in words; `of` says which training the first step was one of."""
        return WENT.format(
            of=of,
            first=self.begun.loss,
            last=self.loss,
            before=self.begun.weight_norm,
            now=self.weight_norm,
            helps=FALLING if self.loss < 0.0 else RISING,
        )


def falls_faster(losses: Sequence[float]) -> bool:
    """Say whether a loss below 0 falls faster and faster up to its end, to many times what it was
    at the beginning. One that approaches a least value falls slower and slower.
    """
    if len(losses) < PARTS:
        return False
    parts = np.reshape(losses[len(losses) % PARTS :], (PARTS, -1))
    means = [float(mean) for mean in np.mean(parts, axis=1)]
    usual = float(np.median(np.abs(means[: PARTS // 4])))
    falls = [before - after for before, after in pairwise(means[PARTS // 2 - 1 :])]
    faster = all(0.0 < fall < next_fall for fall, next_fall in pairwise(falls))
    return faster and means[-1] < -EXPLODED * max(usual, 1.0)


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
    if same:
        return known
    found = Outset.of(recording)
    if found is not None:
        _known[model] = compiled and weakref.ref(compiled), found
    return found
