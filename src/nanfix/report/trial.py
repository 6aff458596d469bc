"""One trial of a search, as a report and a fix.json list it."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from nanfix.records.plurals import counted
from nanfix.remedies.fix import Edit


@dataclass(frozen=True)
class TrialRecord:
    """One candidate fix and what came of it.

    `loss` is the loss reached on validation data in the user's units (None when the probe went
    non-finite); of several players that only their own losses judge, the share of those that have
    learned nothing. `steps` is how many training steps it survived; `verdict` is "works", "not
    learning", "non-finite", "no rows left" where the fix leaves out all of them, or "refused" where
    it could not be computed, for the `reason` given.
    """

    edits: tuple[Edit, ...]
    started_from: str
    steps: int
    loss: float | None
    verdict: str
    seconds: float
    reason: str = ""


LATER = (
    "Why more than what treats that cause: in a short training {} alone ends at a loss of {:.4g}, "
    "this fix at one of {:.4g}; over more steps, or with another seed, the first ended higher or "
    "failed."
)


def tried(trials: Sequence[TrialRecord]) -> list[str]:
    """Return what was tried, and what came of it: a line for each, none where nothing was."""
    if not trials:
        return []
    names = dict.fromkeys(edit.strategy for trial in trials for edit in trial.edits)
    alike = (
        (words(found), len(found))
        for verdict, words in CAME_TO.items()
        if (found := [trial for trial in trials if trial.verdict == verdict])
    )
    came_to = "; ".join(f"{number} {words}" for words, number in alike)
    return [
        f"Tried: {counted(len(trials), 'candidate')} of {', '.join(names)}.",
        f"What came of it: {came_to}.",
    ]


def instead_of(
    trials: Sequence[TrialRecord], edits: Sequence[Edit], treats: Callable[[Edit], bool]
) -> str:
    """Say what the edits that treat the cause named came to alone, where a fix has others; nothing
    where it has not, or where that was not tried.

    Args:
        edits: those of the fix.
        treats: says whether an edit treats the cause.
    """
    fix = next((trial for trial in trials if trial.edits == tuple(edits)), None)
    if fix is None or fix.loss is None or all(map(treats, edits)):
        return ""
    alone = [trial for trial in trials if trial.edits and all(map(treats, trial.edits))]
    finite = [trial for trial in alone if trial.loss is not None]
    if finite:
        best = min(finite, key=lambda trial: trial.loss or 0.0)
        if best.loss is not None and best.loss <= fix.loss:
            return LATER.format(_names(best), best.loss, fix.loss)
        came_to = f"{_names(best)} alone ends at a loss of {best.loss:.4g}"
    elif any(trial.verdict == "non-finite" for trial in alone):
        last = max(alone, key=lambda trial: trial.steps)
        came_to = f"{_names(last)} alone is non-finite after {counted(last.steps, 'step')}"
    else:
        return ""
    return (
        f"Why more than what treats that cause: in a short training {came_to}, this fix at one of "
        f"{fix.loss:.4g}."
    )


def _nonfinite(trials: Sequence[TrialRecord]) -> str:
    last = max(trials, key=lambda trial: trial.steps)
    if last.steps == min(trial.steps for trial in trials):
        return f"non-finite after {counted(last.steps, 'step')}"
    return f"non-finite, the latest after {counted(last.steps, 'step')} ({_names(last)})"


def _not_learning(trials: Sequence[TrialRecord]) -> str:
    best = min(trials, key=lambda trial: math.inf if trial.loss is None else trial.loss)
    reached = "" if best.loss is None else f", at best a loss of {best.loss:.4g} ({_names(best)})"
    return f"finite without learning{reached}"


def _refused(trials: Sequence[TrialRecord]) -> str:
    return f"could not be computed ({trials[0].reason})"


def _names(trial: TrialRecord) -> str:
    return " + ".join(edit.strategy for edit in trial.edits)


# By verdict, what is said of the trials that came to it.
CAME_TO: dict[str, Callable[[Sequence[TrialRecord]], str]] = {
    "works": lambda _: "worked in a short training, but not in a whole one",
    "not learning": _not_learning,
    "non-finite": _nonfinite,
    "no rows left": lambda _: "left no rows",
    "refused": _refused,
}
