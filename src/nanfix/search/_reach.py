"""Whether the rows that are trained on reach the weights under a fix."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from nanfix.changes.guards import Guards
from nanfix.changes.plan import Plan
from nanfix.data.arrays import flat_arrays, unpacked
from nanfix.install.workbench import Workbench
from nanfix.model.faults import Net
from nanfix.model.training_step import Batch
from nanfix.search.verdict import the_same

ROWS, BATCHES = 32, 2  # of each batch whose gradients are compared
SINGLE = 32  # rows that are looked at one by one
MORE_BATCHES = (32, 8)  # that are looked at where two have no gradient: most rows may be masked
NOTHING_ARRIVES = "no gradient of the data reaches the weights"
NOTHING_OF_OUTPUT = "one output learns nothing: no gradient of its loss reaches the weights ({})"
ALL_HELD = (
    "a guard still holds every number at the edge of the domain, so that what it guards is a "
    "constant and teaches nothing"
)
WEIGHT_HELD = (
    "a guard still holds a weight that has gone beyond the edge of the domain, so that what it "
    "guards is a constant and teaches that weight nothing; a constraint on the weight, a lower "
    "learning rate, or a weight that stands for its logarithm keeps it inside"
)
HELD_BACK = (
    "The guard holds back the gradient of {} of {} rows that were tried: as long as it does, "
    "nothing is learned of them."
)
# Share of the loss that rows make up of which nothing is learned: what is left of it is the number
# that the guard puts there.
MOST_OF_LOSS = 0.5
HELD_MOST = (
    "the rows whose gradient a guard holds back make up {:.0%} of what is left of the loss, so "
    "that it is a number of the guard's"
)


@dataclass(frozen=True)
class HeldBack:
    """Of how many single rows a guard makes the gradient 0, of how many that were tried, and which
    share of the loss the rows make up whose gradient is 0.
    """

    rows: int = 0
    tried: int = 0
    share_of_loss: float = 0.0

    @property
    def note(self) -> str | None:
        return HELD_BACK.format(self.rows, self.tried) if self.rows else None

    @property
    def lacking(self) -> str | None:
        """What a repair lacks for it, if anything."""
        if self.rows and self.rows == self.tried:
            return NOTHING_ARRIVES
        most = self.share_of_loss > MOST_OF_LOSS
        return HELD_MOST.format(self.share_of_loss) if most else None


class Reach:
    """Looks at a training with a fix that is prepared, at its beginning and at its end.

    Of the gradients of a stream, and of what Keras does not compile, nothing is known.

    Args:
        outputs: the places of those that are looked at one by one, by the names of their losses.
    """

    def __init__(self, bench: Workbench, outputs: Mapping[str, int] = MappingProxyType({})):
        self._insight = bench.insight()
        batches = self._insight.batches(ROWS, BATCHES) if self._insight.has_gradients else []
        self._batches = batches if batches and not _alike(*batches) else []
        self._cut_off = self._is_cut_off()
        self._outputs = {
            name: place for name, place in outputs.items() if self._output_is_cut_off(place)
        }

    def never_arrives(self) -> bool:
        """Say whether nothing has reached the weights from the beginning to now."""
        return self._cut_off and self._is_cut_off()

    def output_that_never_arrives(self) -> str | None:
        """Return the name of the loss of an output of which nothing has reached the weights from
        the beginning to now, if there is one.
        """
        still = (name for name, place in self._outputs.items() if self._output_is_cut_off(place))
        return next(still, None)

    def held_back(self) -> HeldBack:
        """Look at single rows, of which none is known where a loss compares rows with each other,
        so that only several of them have a gradient. What is given a weight of 0 is not to be
        learned of; a row whose gradient would be 0 without the guard, too, is not held back by it.
        """
        rows = self._insight.batches(1, SINGLE) if self._batches else []
        rows = [row for row in rows if _counts(row)]
        seen = [
            (_any(gradient), max(loss or 0.0, 0.0))
            for gradient, loss in self._insight.gradients_and_losses(rows)
        ]
        still = [i for i, (reached, _) in enumerate(seen) if not reached]
        if len(still) == len(seen) and any(map(_any, self._insight.gradients(self._batches))):
            return HeldBack()
        held = sum(map(_any, self._insight.gradients_let_through([rows[i] for i in still])))
        total, left = sum(loss for _, loss in seen), sum(seen[i][1] for i in still)
        return HeldBack(held, len(seen), left / total if total else 0.0)

    def taught_in_vain(self, still: Sequence[str]) -> list[str]:
        """Return those of the weights that have a gradient, though they are `still` as they were:
        one that has none, as a bias that cancels out, has nothing to learn.
        """
        taught = self._insight.taught(self._batches)
        return [] if taught is None else [path for path in still if path in taught]

    def held(self) -> str | None:
        """Return what is wrong with what a guard holds: every number of an operation outside of
        layers, as one in the loss, or a weight; None where it is nothing.
        """
        shares = self._insight.shares_held(self._batches)
        if any(beyond for _, beyond in shares):
            return WEIGHT_HELD
        return ALL_HELD if any(share == 1.0 for share, _ in shares) else None

    def _is_cut_off(self) -> bool:
        return _all_the_same(self._insight.gradients(self._batches), self._batches)

    def _output_is_cut_off(self, place: int) -> bool:
        """Say whether none of many rows has a gradient of the loss of an output."""
        if not self._alike_of(place, self._batches):
            return False
        many = (self._insight.batches(ROWS, count) for count in MORE_BATCHES)
        more = next(filter(None, many), self._batches)
        return more is self._batches or self._alike_of(place, more)

    def _alike_of(self, place: int, batches: list[Batch]) -> bool:
        """Say whether the gradient of an output is the same of each batch; not where it is not
        known, or all rows have a weight of 0 there.
        """
        weights = [each for batch in batches for each in flat_arrays(unpacked(batch)[2])]
        if not all(map(np.any, weights)):
            return False
        return _all_the_same(self._insight.gradients_of_output(batches, place), batches)


def _all_the_same(given: Iterable[list[np.ndarray]], batches: list[Batch]) -> bool:
    """Say whether each of the batches has a gradient, and all have the same."""
    gradients = list(given)
    return 0 < len(gradients) == len(batches) and all(
        the_same(gradients[0], other) for other in gradients[1:]
    )


def idle(reach: Reach | None, plan: Plan, net: Net) -> tuple[str | None, tuple[str, ...]]:
    """Return that nothing of the data reaches the weights, None where it does, or that is not
    known; and of how many rows a guard holds back the gradient.
    """
    if reach is None:
        return None, ()
    if net.attempt("looking for what reaches the weights", reach.never_arrives, False):
        return NOTHING_ARRIVES, ()
    alone = net.attempt("looking at each output", reach.output_that_never_arrives, None)
    if alone is not None:
        return NOTHING_OF_OUTPUT.format(alone), ()
    if not plan.of(Guards).guards:
        return None, ()
    held = net.attempt("looking at the gradients of rows", reach.held_back, HeldBack())
    notes = () if held.note is None else (held.note,)
    if held.lacking is not None:
        return held.lacking, notes
    return net.attempt("looking at what a guard holds", reach.held, None), notes


def _any(gradient: list[np.ndarray]) -> bool:
    return any(np.any(part) for part in gradient)


def _counts(batch: Batch) -> bool:
    """Say whether a batch has a sample weight other than 0, or none at all."""
    weights = flat_arrays(unpacked(batch)[2])
    return not weights or any(np.any(weight) for weight in weights)


def _alike(one: Any, other: Any) -> bool:
    pairs = zip(flat_arrays(one), flat_arrays(other), strict=True)
    return all(np.array_equal(a, b, equal_nan=a.dtype.kind == "f") for a, b in pairs)
