"""What later fit calls say of a fix: a model that has diverged with it is not repaired."""

from dataclasses import replace

from nanfix.report.report import Outcome
from nanfix.scripts.results import CallResult, ScriptResult

FELL_SHORT = (
    "It falls short of a repair: by fit call {call}, which trained with the fix, loss and weights "
    "of the model have grown by orders of magnitude."
)


def diverged_with(fix: CallResult, result: ScriptResult) -> CallResult | None:
    """Return the first fit call that a run of the script has made with this fix and that has
    diverged; None where none has.

    The `fix` is known by the call it was found in, or by the one that it begins in.
    """
    numbers = {fix.call, fix.record.begins if fix.record else None} - {None}
    with_it = (call for call in result.calls if call.record and call.record.carried in numbers)
    return next((call for call in with_it if call.outcome is Outcome.DIVERGED), None)


def judged_by_loops(first: ScriptResult, *runs: ScriptResult) -> ScriptResult:
    """Return `first` with those fixes no longer called a repair with which a model has diverged in
    a later fit call of one of the runs.
    """
    return replace(first, calls=tuple(_judged(call, (first, *runs)) for call in first.calls))


def _judged(call: CallResult, runs: tuple[ScriptResult, ...]) -> CallResult:
    own = call.record is not None and call.record.carried is None
    if call.outcome is not Outcome.REPAIRED or call.record is None or not own:
        return call
    diverged = next(filter(None, (diverged_with(call, run) for run in runs)), None)
    if diverged is None:
        return call
    note = FELL_SHORT.format(call=diverged.call + 1)
    update = {"outcome": Outcome.FINITE.name, "notes": [*call.record.notes, note]}
    return replace(
        call,
        outcome=Outcome.FINITE,
        text=_told(call.text, note),
        summary=call.summary and _told(call.summary, note),
        record=call.record.model_copy(update=update),
    )


def _told(text: str, note: str) -> str:
    """Return the words for a fix that was called a repair, as those for one that is none."""
    before, after = (f"{o.name}: {o.value}" for o in (Outcome.REPAIRED, Outcome.FINITE))
    return f"{text.replace(before, after, 1)}\n{note}"
