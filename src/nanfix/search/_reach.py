"""Whether the rows that are trained on reach the weights under a fix."""

from typing import Any

import numpy as np

from nanfix.data.arrays import flat_arrays, unpacked
from nanfix.install.workbench import Workbench
from nanfix.model.training_step import Batch
from nanfix.search.verdict import the_same

ROWS, BATCHES = 32, 2  # of each batch whose gradients are compared
SINGLE = 32  # rows that are looked at one by one
NOTHING_ARRIVES = "no gradient of the data reaches the weights"
ALL_HELD = (
    "a guard still holds every number at the edge of the domain, so that what it guards is a "
    "constant and teaches nothing"
)


class Reach:
    """Looks at a training with a fix that is prepared, at its beginning and at its end.

    Of the gradients of a stream, and of what Keras does not compile, nothing is known.
    """

    def __init__(self, bench: Workbench):
        self._insight = bench.insight()
        batches = self._insight.batches(ROWS, BATCHES) if self._insight.has_gradients else []
        self._batches = batches if batches and not _alike(*batches) else []
        self._cut_off = self._is_cut_off()

    def never_arrives(self) -> bool:
        """Say whether nothing has reached the weights from the beginning to now."""
        return self._cut_off and self._is_cut_off()

    def held_back(self) -> tuple[int, int]:
        """Return of how many single rows, and of how many that were tried, the gradient is 0; of
        none where that is not known. What is given a weight of 0 is not to be learned of.
        """
        rows = self._insight.batches(1, SINGLE) if self._batches else []
        rows = [row for row in rows if _counts(row)]
        reached = [
            any(np.any(part) for part in gradient) for gradient in self._insight.gradients(rows)
        ]
        return reached.count(False), len(reached)

    def all_held(self) -> bool:
        """Say whether a guard outside of layers, as one in the loss, lets no number through."""
        return any(share == 1.0 for share in self._insight.shares_held(self._batches))

    def _is_cut_off(self) -> bool:
        gradients = list(self._insight.gradients(self._batches))
        return len(gradients) == BATCHES and the_same(*gradients)


def _counts(batch: Batch) -> bool:
    """Say whether a batch has a sample weight other than 0, or none at all."""
    weights = flat_arrays(unpacked(batch)[2])
    return not weights or any(np.any(weight) for weight in weights)


def _alike(one: Any, other: Any) -> bool:
    pairs = zip(flat_arrays(one), flat_arrays(other), strict=True)
    return all(np.array_equal(a, b, equal_nan=a.dtype.kind == "f") for a, b in pairs)
