"""Bring the labels of a binary crossentropy to 0 and 1, the only ones for which it has
a lowest value.
"""

import numpy as np

from nanfix.changes.maps import Affine
from nanfix.changes.rows import RowFilter
from nanfix.model.crossentropies import Targets, crossentropy_of
from nanfix.records.cause import Cause
from nanfix.remedies.strategy import Strategy, Tier


class RescaleLabels(Strategy):
    """Train on (y - low) / (high - low) where labels run from low to high, as -1 and 1
    do, or masks of 0 and 255.

    With a label y outside 0..1 the crossentropy -y log(p) - (1 - y) log(1 - p) falls for ever as p
    goes to 0 or 1. Training, validation and judging all take the new labels; the model predicts the
    probability of the high one. Does not help when labels that are wrong lie between right ones,
    nor a regression trained with this loss.

    Reference: keras.losses.BinaryCrossentropy, which takes labels of 0 and 1.
    """

    name = "rescale-labels"
    tier = Tier.DATA
    treats = frozenset({Cause.INVALID_LABEL})
    keeps_weights = False
    reference = "keras.losses.BinaryCrossentropy"

    def refusal(self, diagnosis, run, plan):
        if run.sample.unfilterable:
            return run.sample.unfilterable
        crossentropy = crossentropy_of(run.user_loss)
        if (
            crossentropy is None
            or crossentropy.targets is not Targets.EACH
            or len(run.sample.targets) != 1
        ):
            return "the loss is no binary crossentropy of a single output"
        low, high = _ends(run)
        return (
            None if ((low < 0 or high > 1) and low < high) else "every label lies between 0 and 1"
        )

    def space(self, hp, diagnosis, run, plan):
        low, high = _ends(run)
        return {"low": low, "high": high}

    def apply(self, run, plan, *, low, high):
        return plan.with_change(RowFilter(labels=Affine((low,), (high - low,))))

    def explain(self, params):
        return (
            f"Take the labels {params['low']:g} to {params['high']:g} as 0 to 1, as binary "
            "crossentropy does."
        )

    def snippet(self, params):
        return f"y = (y - {params['low']:g}) / {params['high'] - params['low']:g}"


def _ends(run) -> tuple[float, float]:
    """Return the lowest and the highest label, 0 where none lies below: of 3 classes
    all may not be there.
    """
    whole = run.sample.whole
    seen = (run.sample.targets if whole is None else whole[1])[0]
    seen = seen[np.isfinite(seen)]
    if not seen.size:
        return 0.0, 0.0
    return min(0.0, float(seen.min())), max(1.0, float(seen.max()))
