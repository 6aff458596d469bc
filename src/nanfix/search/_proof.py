"""Prove a fix before the user's epochs are trained with it: other seeds, more steps,
and each edit left out in turn.
"""

import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

from nanfix.remedies.fix import Edit, Fix
from nanfix.report.trial import TrialRecord
from nanfix.search.choice import limit
from nanfix.search.judge import Judge

SEEDS = (1, 2)  # by which a fix is tried anew
HORIZON = 2.0  # and how much longer than in the search


@dataclass(frozen=True)
class Proof:
    """What is left of a fix that held, and the loss that it reached with each of the
    other seeds.
    """

    fix: Fix
    losses: tuple[float, ...]

    @property
    def spread(self) -> float:
        """By how much these losses differ, which is noise."""
        return max(self.losses) - min(self.losses) if self.losses else 0.0

    def sentence(self, judged: bool) -> str:
        """Return the sentence of it; where no model could be judged, that it stays finite is all
        that is known.
        """
        if not judged:
            return f"It stays finite with {len(self.losses)} other seeds and over more steps, too."
        losses = " and ".join(f"{loss:.3g}" for loss in self.losses)
        return (
            f"Proved: it also works with {len(self.losses)} other seeds and over more steps (loss "
            f"{losses})."
        )


class Longer:
    """Probes of fixes over more steps than in the search, each made once."""

    def __init__(self, judge: Judge):
        self._judge = judge
        self._made: dict[tuple[str, int], TrialRecord] = {}

    def __call__(self, fix: Fix, seed: int = SEEDS[0]) -> TrialRecord:
        known = fix.digest, seed
        if known not in self._made:
            self._made[known] = self._judge(fix, seed, HORIZON)
        return self._made[known]

    def reached(self, fix: Fix) -> float | None:
        """Return the mean loss of the seeds that were tried; None when it failed with one. A fix
        that was lucky with the first falls back by its second.
        """
        made = [record for (digest, _), record in self._made.items() if digest == fix.digest]
        losses = [record.loss for record in made if record.verdict == "works"]
        losses = [loss for loss in losses if loss is not None]
        return statistics.fmean(losses) if losses and len(losses) == len(made) else None

    def spread(self, fix: Fix) -> float:
        """Return by how much the losses of a fix differ from seed to seed; 0 where one failed."""
        losses = [self(fix, seed).loss for seed in SEEDS]
        known = [loss for loss in losses if loss is not None]
        return max(known) - min(known) if len(known) == len(losses) else 0.0


class OutOfTime(Exception):
    """The deadline has passed before a fix was proved."""


def prove(
    longer: Longer,
    fix: Fix,
    *,
    keep: Sequence[Edit] = (),
    baseline: float = math.inf,
    deadline: float = math.inf,
) -> Proof | None:
    """Return the proof of what of `fix` is needed; None when it does not hold.

    A probe that runs at the `deadline`, in seconds of `time.monotonic`, is finished.
    Edits not left out by then stay.

    Args:
        keep: edits that are not left out: changes to the data, without which no loss is comparable,
            and what computes the same numbers.
        baseline: the loss of a model that has learned nothing; differences are judged against it.

    Raises:
        OutOfTime: the fix held as far as it was tried, but not with every seed in time.
    """
    losses = _losses(longer, fix, deadline=deadline)
    if losses is None:
        return None
    for edit in reversed([edit for edit in fix.edits if edit not in keep]):
        smaller = Fix(tuple(kept for kept in fix.edits if kept is not edit))
        try:
            without = (
                _losses(longer, smaller, limit(max(losses), baseline), deadline)
                if smaller
                else None
            )
        except OutOfTime:
            break
        if without is not None:
            fix, losses = smaller, without
    return Proof(fix, losses)


def _losses(
    longer: Longer, fix: Fix, highest: float = math.inf, deadline: float = math.inf
) -> tuple[float, ...] | None:
    """Return the loss of a longer probe for each seed; None as soon as one does not
    hold or ends above `highest`.
    """
    losses = []
    for seed in SEEDS:
        if time.monotonic() > deadline:
            raise OutOfTime
        record = longer(fix, seed)
        if record.verdict != "works" or record.loss is None or record.loss > highest:
            return None
        losses.append(record.loss)
    return tuple(losses)
