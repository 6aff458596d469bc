"""How the columns of an output have to move with targets that are shifted and scaled, so that their
loss stays what it was: that of a likelihood its location and its scale, whatever it is called.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from nanfix.changes.maps import LOCATION, MOVES, moves
from nanfix.explain.loss_probe import loss_on
from nanfix.model.crossentropies import UserLoss
from nanfix.model.refusals import REFUSED

Shape = tuple[int, ...]
WIDEST = 3  # columns of an output, of which each may be any of these; more stand in groups
GROUPS = (2, 3)  # of columns that are all the same, side by side or in turns
MOST = 32  # columns
LARGEST = 4096  # numbers in an output of a row
DRAWS, ROWS = 4, 6
# What drawn targets are moved by, a column the more by `STEP` than the one before it.
CENTER, SCALE, STEP = 0.7, 3.0, 0.5
SAME = 1e-3  # share of the differences between losses


@dataclass(frozen=True)
class Equivariance:
    """How a loss goes with its targets: it is multiplied by this `power` of their scale where each
    of the `columns` of the outputs, which are of MOVES, moves with that column `of` the targets.
    Without columns nothing like it is so.
    """

    power: int = 0
    columns: tuple[str, ...] = ()
    of: tuple[int, ...] = ()


NOT_SO = Equivariance()


@lru_cache(64)
def equivariance(
    loss: UserLoss,
    outputs: Shape,
    targets: Shape,
    center: tuple[float, ...],
    scale: tuple[float, ...],
) -> Equivariance:
    """Return how a loss goes with its targets; no columns where it does not, or cannot be computed.

    The loss may differ by what is the same for all outputs, as the log of the scale of a
    likelihood. It is tried on drawn outputs and targets, whose rows have these shapes, and once
    more where these are moved by this `center` and `scale` of each column of the targets, beyond
    which a loss may clip a column.
    """
    if (outputs[-1] if outputs else 1) > MOST or math.prod(outputs) > LARGEST:
        return NOT_SO
    try:
        draws = _Draws(loss, outputs, targets)
        if not np.isfinite(draws.before).all() or not np.ptp(draws.before):
            return NOT_SO
        for columns, of in _layouts(outputs[-1] if outputs else 1, len(center)):
            alike = {*columns} == {LOCATION} and {*of} == {0}
            powers = (0, 1, 2) if alike else (0,) if LOCATION in columns else ()
            count = max(of) + 1
            drawn = [(number + STEP * np.arange(count)).tolist() for number in (CENTER, SCALE)]
            for power in powers:
                if draws.keep_their_loss(columns, of, power, *drawn):
                    given = [numbers[:count] for numbers in (center, scale)]
                    kept = draws.keep_their_loss(columns, of, power, *given)
                    return Equivariance(power, columns, of) if kept else NOT_SO
    except REFUSED:
        pass
    return NOT_SO


def _layouts(width: int, count: int) -> Iterator[tuple[tuple[str, ...], tuple[int, ...]]]:
    """Yield what the columns of an output may be, each of MOVES, and of which column of `count` of
    the targets: few may be anything; of many all are the same, or those of each group.
    """
    one = (0,) * width
    if width <= WIDEST:
        yield from ((columns, one) for columns in itertools.product(MOVES, repeat=width))
        return
    yield (LOCATION,) * width, one
    for groups in GROUPS:
        length, rest = divmod(width, groups)
        if rest:
            continue
        each = range(length) if length == count else [0] * length
        for kinds in itertools.product(MOVES, repeat=groups):
            yield tuple(kind for kind in kinds for _ in each), (*each,) * groups
            yield kinds * length, tuple(at for at in each for _ in kinds)


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
        self,
        columns: Sequence[str],
        of: Sequence[int],
        power: int,
        center: Sequence[float],
        scale: Sequence[float],
    ) -> bool:
        """Say whether the loss is multiplied by this power of the scale, but for what is the same
        for all outputs, where targets become center + scale * t and the columns move with them.
        """
        shift, factor = map(np.array, moves(columns, of, center, scale))
        grown = scale[0] ** power
        allowed, gaps = SAME * grown * np.ptp(self.before), []
        draws = zip(self._targets, self._outputs, self.before, strict=True)
        for targets, outputs, before in draws:
            after = self._of(np.array(center) + np.array(scale) * targets, shift + factor * outputs)
            gaps.append(after - grown * before)
            if not np.ptp(gaps) <= allowed:
                return False
        return True

    def _of(self, targets: np.ndarray, outputs: np.ndarray) -> float:
        return loss_on(self._loss, targets.astype("float32"))(outputs.astype("float32"))
