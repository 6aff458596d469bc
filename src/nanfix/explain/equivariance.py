"""How the columns of an output have to move with targets that are shifted and scaled, so that their
loss stays what it was: that of a likelihood its location and its scale, whatever it is called.
"""

import itertools
import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from nanfix.changes.maps import LOCATION, MOVES, moves
from nanfix.explain.loss_probe import loss_on
from nanfix.model.crossentropies import UserLoss
from nanfix.model.refusals import REFUSED

Shape = tuple[int, ...]
WIDEST = 3  # columns of an output, of which each may be any of these
LARGEST = 4096  # numbers in an output of a row
DRAWS, ROWS = 4, 6
CENTER, SCALE = 0.7, 3.0  # what drawn targets are moved by
SAME = 1e-3  # share of the differences between losses


@lru_cache(64)
def equivariance(loss: UserLoss, outputs: Shape, targets: Shape) -> tuple[int, tuple[str, ...]]:
    """Return the power of the scale by which a loss is multiplied where targets are scaled, and
    what each column of the outputs is (of MOVES) that moves with them; no columns where nothing
    like it is so, or the loss cannot be computed.

    The loss may differ by what is the same for all outputs, as the log of the scale of a
    likelihood. It is tried on drawn outputs and targets, whose rows have these shapes.
    """
    width = outputs[-1] if outputs else 1
    if width > WIDEST or math.prod(outputs) > LARGEST:
        return 0, ()
    try:
        draws = _Draws(loss, outputs, targets)
        if not np.isfinite(draws.before).all() or not np.ptp(draws.before):
            return 0, ()
        for columns in itertools.product(MOVES, repeat=width):
            powers = (0, 1, 2) if {*columns} == {LOCATION} else (0,) if LOCATION in columns else ()
            for power in powers:
                if draws.keep_their_loss(columns, power):
                    return power, columns
    except REFUSED:
        pass
    return 0, ()


class _Draws:
    """Outputs and targets, and their losses `before` these are moved."""

    def __init__(self, loss: UserLoss, outputs: Shape, targets: Shape):
        rng = np.random.default_rng(0)
        drawn = [rng.normal(size=(ROWS, *targets)).astype("float32") for _ in range(DRAWS)]
        # Above 0, as a scale is.
        self._outputs = [rng.uniform(0.5, 1.5, (ROWS, *outputs)) for _ in range(DRAWS)]
        self._losses = [loss_on(loss, (CENTER + SCALE * each).astype("float32")) for each in drawn]
        pairs = zip(drawn, self._outputs, strict=True)
        self.before = np.array([loss_on(loss, t)(o.astype("float32")) for t, o in pairs])

    def keep_their_loss(self, columns: Sequence[str], power: int) -> bool:
        """Say whether the loss is multiplied by this power of the scale, but for what is the same
        for all outputs, where the columns move with the targets.
        """
        center, scale = map(np.array, moves(columns, CENTER, SCALE))
        allowed, gaps = SAME * SCALE**power * np.ptp(self.before), []
        for loss, outputs, before in zip(self._losses, self._outputs, self.before, strict=True):
            gaps.append(loss((center + scale * outputs).astype("float32")) - SCALE**power * before)
            if not np.ptp(gaps) <= allowed:
                return False
        return True
