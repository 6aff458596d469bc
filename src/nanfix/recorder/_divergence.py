"""Whether the loss of a training stands so high that it has diverged, and since when."""

import math
from dataclasses import dataclass

from nanfix.recorder._losses import LossSeries
from nanfix.recorder.recording import TIMES_THE_FIRST
from nanfix.records.diagnosis import Onset


@dataclass(frozen=True)
class Began:
    """The first step of those in a row, up to now, whose loss stands above the ceiling, and how
    many steps there are up to it.
    """

    at: Onset
    total: int


class Divergence:
    """Follows the loss of a training.

    Attributes:
        active: whether anybody wants to know.
        ceiling: the loss above which the training has diverged; inf until that is known.
        began: where the loss rose above it; None while it stands below.
    """

    def __init__(self, *, active: bool):
        self.active = active
        self.ceiling = math.inf
        self.began: Began | None = None
        self._has_recovered = False

    def see(self, losses: LossSeries, at: Onset, total: int) -> None:
        """Look at the newest of the losses, that of the step `at`."""
        loss, first = losses.steps[-1], losses.first
        self.ceiling = TIMES_THE_FIRST * first if first > 0.0 else math.inf
        if loss <= self.ceiling:
            self._has_recovered = self._has_recovered or self.began is not None
            self.began = None
        elif self.began is None:
            self.began = Began(at, total)

    def recovered(self) -> bool:
        """Say whether the loss has come back below the ceiling since this was last asked."""
        recovered, self._has_recovered = self._has_recovered, False
        return recovered
