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
def equivariance(
    loss: UserLoss, outputs: Shape, targets: Shape, center: float, scale: float
) -> tuple[int, tuple[str, ...]]:
    """Return the power of the scale by which a loss is multiplied where targets are scaled, and
    what each column of the outputs is (of MOVES) that moves with them; no columns where nothing
    like it is so, or the loss cannot be computed.

    The loss may differ by what is the same for all outputs, as the log of the scale of a
    likelihood. It is tried on drawn outputs and targets, whose rows have these shapes, and once
    more where these are moved by this `center` and `scale`, beyond which a loss may clip a column.
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
                if draws.keep_their_loss(columns, power, CENTER, SCALE):
                    kept = draws.keep_their_loss(columns, power, center, scale)
                    return (power, columns) if kept else (0, ())
    except REFUSED:
        pass
    return 0, ()


class _Draws:
    """Outputs and targets, and their losses `before` these are moved."""

    def __init__(self, loss: UserLoss, outputs: Shape, targets: Shape):
        rng = np.random.default_rng(0)
        self._loss = loss
        self._targets = [rng.normal(size=(ROWS, *targets)) for _ in range(DRAWS)]
        # Above 0, as a scale is.
        self._outputs = [rng.uniform(0.5, 1.5, (ROWS, *outputs)) for _ in range(DRAWS)]
        pairs = zip(self._targets, self._outputs, strict=True)
        self.before = np.array([self._of(*pair) for pair in pairs])

    def keep_their_loss(
        self, columns: Sequence[str], power: int, center: float, scale: float
    ) -> bool:
        """Say whether the loss is multiplied by this power of the scale, but for what is the same
        for all outputs, where targets become center + scale * t and the columns move with them.
        """
        shift, factor = map(np.array, moves(columns, center, scale))
        allowed, gaps = SAME * scale**power * np.ptp(self.before), []
        draws = zip(self._targets, self._outputs, self.before, strict=True)
        for targets, outputs, before in draws:
            after = self._of(center + scale * targets, shift + factor * outputs)
            gaps.append(after - scale**power * before)
            if not np.ptp(gaps) <= allowed:
                return False
        return True

    def _of(self, targets: np.ndarray, outputs: np.ndarray) -> float:
        return loss_on(self._loss, targets.astype("float32"))(outputs.astype("float32"))
