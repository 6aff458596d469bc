"""Whether a training has learned that no evaluation judges: by its own losses, on the same batches
with the weights as they were before, and as they are now.
"""

import math
from collections.abc import Sequence

import numpy as np

from nanfix.changes.plan import Plan
from nanfix.changes.rows import RowFilter
from nanfix.install.players import Played, Player, players
from nanfix.model.run import Run
from nanfix.recorder.recording import GREW, TIMES_THE_FIRST
from nanfix.records.cause import Cause
from nanfix.records.diagnosis import Diagnosis
from nanfix.search.verdict import LEARNED

STANDARD_ERRORS = 2.0  # of the mean over batches, a gain is beyond noise
LEAST_MOVED = 1e-3  # of its norm, a training moves the weights of one of several players

TOGETHER = "loss"

BY_ITSELF = (
    "The model cannot be evaluated outside of its training step, since {}: it is judged by the "
    "losses of that step, on the same batches before and after training."
)

NOT_KNOWN = (
    "whether it learns is not known, since the training step logs no loss that could be compared "
    "with that of before training"
)
STILL_UNSCALED = (
    "whether it learns well is not known, since the inputs are far from unit scale, and {}: scale "
    "the data before fit"
)
LEFT_SO = STILL_UNSCALED.format("this fix leaves them so")
PASSED_BY = STILL_UNSCALED.format(
    "the model's own training step does not call the model, where a scaling would stand"
)
TAKES_NONE = STILL_UNSCALED.format(
    "no scaling can stand where the model's own call computes with them"
)

UNKNOWN = (NOT_KNOWN, PASSED_BY, TAKES_NONE)  # no other fix could show more


def unscaled(run: Run, diagnosis: Diagnosis, plan: Plan) -> str | None:
    """Return that the inputs stay far from unit scale with a plan, if they do: the loss of all
    falls then, too, of what has learned the size of its inputs and little else.
    """
    if Cause.UNSCALED_INPUT not in diagnosis.causes or players(run.model) != 1:
        return None
    if plan.of(RowFilter).scaled:
        return None
    takes_none = any(run.sample.quantities) and not any(run.sample.scalable)
    if takes_none and not run.has_stock_step and not run.sample.unfilterable:
        return LEFT_SO
    if run.sample.passed_by:
        return PASSED_BY
    return TAKES_NONE if takes_none else None


def idle(played: Played) -> list[Player]:
    """Return the players that have learned nothing: against the others as they are now, none of the
    losses is lower than with the weights that the player began with; or these have hardly moved.

    What a generator has learned is seen against the trained discriminator alone, and the other way
    round: the losses of two trainings say nothing of each other.
    """
    now = played.now
    return [
        player
        for player in played.players
        if player.moved < LEAST_MOVED or not any(_gained(player.idle, now, n) for n in _names(now))
    ]


def against_each_other(played: Played) -> bool:
    """Say whether several players have a loss each; one loss of all of them is to fall."""
    return len(played.players) > 1 and len(_names(played.now)) > 1


def share_idle(played: Played) -> float:
    """Return the share of the players that have learned nothing."""
    return len(idle(played)) / max(len(played.players), 1)


def shortfall_by_itself(played: Played | None) -> str | None:
    """Return what a training with these losses lacks to be a repair, None when it lacks nothing."""
    if played is None or not _names(played.now) or not played.players:
        return NOT_KNOWN
    if not against_each_other(played):
        return _not_fallen(played)
    if played.lifeless:
        return f"a part of the model gives the same for all rows ({', '.join(played.lifeless)})"
    if grown := has_grown(played):
        return f"a loss has grown by orders of magnitude, and weights with it ({grown})"
    if none := idle(played):
        names = ", ".join(player.name for player in none)
        return (
            f"what an optimizer trains has learned nothing ({names}): with the weights that it "
            "began with, no loss is higher"
        )
    return None


def has_grown(played: Played) -> str | None:
    """Return which single loss has grown by orders of magnitude, with the weights of a player."""
    if not any(player.grown > GREW for player in played.players):
        return None
    for name in _names(played.now):
        first, last = _of(played.untrained, name), _of(played.now, name)
        if abs(np.mean(last)) > TIMES_THE_FIRST * np.max(np.abs(first)) > 0.0:
            return f"{name} {np.mean(first):.4g} to {np.mean(last):.4g}"
    return None


def _not_fallen(played: Played) -> str | None:
    before, now = (
        [{TOGETHER: sum(each.values())} for each in losses]
        for losses in (played.untrained, played.now)
    )
    if _gained(before, now, TOGETHER):
        return None
    first, last = (np.mean(_of(losses, TOGETHER)) for losses in (before, now))
    return f"the loss of its own step has not fallen beyond noise ({first:.4g} to {last:.4g})"


def _gained(before: Sequence[dict[str, float]], now: Sequence[dict[str, float]], name: str) -> bool:
    """Say whether a loss is lower now, batch by batch, by more than noise makes."""
    first, last = _of(before, name), _of(now, name)
    gains = (first - last)[np.isfinite(first) & np.isfinite(last)]
    if not len(gains):
        return False
    noise = np.std(gains, ddof=1) / math.sqrt(len(gains)) if len(gains) > 1 else 0.0
    least = LEARNED * abs(np.mean(first[np.isfinite(first)]))
    return bool(np.mean(gains) > max(least, STANDARD_ERRORS * noise))


def _names(losses: Sequence[dict[str, float]]) -> list[str]:
    return [name for name in (losses[0] if losses else ()) if all(name in each for each in losses)]


def _of(losses: Sequence[dict[str, float]], name: str) -> np.ndarray:
    return np.asarray([each.get(name, math.nan) for each in losses])
