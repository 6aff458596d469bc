"""One trial of a search, as a report and a fix.json list it."""

from dataclasses import dataclass

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
