"""What later fit calls say of a fix: a model that has diverged with it is not repaired."""

import logging
from collections.abc import Callable
from dataclasses import replace

from nanfix.patch.counted import together
from nanfix.report.fix_file import RunRecord
from nanfix.report.report import Outcome
from nanfix.scripts._job import Job
from nanfix.scripts.results import CallResult, ScriptResult

log = logging.getLogger("nanfix")

FALLS = (
    "---- With the fix of fit call {call} the loss falls for ever in later calls: running the "
    "script once more, with another search there that knows it."
)
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


def trained_with(fix: int | None, result: ScriptResult) -> list[CallResult]:
    """Return the fit calls of a run that have trained with the fix of the call of this number."""
    return [
        call
        for call in result.calls
        if fix is not None and fix in (call.call, call.record and call.record.carried)
    ]


def with_sources(
    first: ScriptResult, run: ScriptResult, number: Callable[[RunRecord], int | None]
) -> ScriptResult:
    """Return `first` with what each fix changes in the source for all calls of a run that have
    trained with it; `number` gives for its record the number that it has in that run.
    """

    def counted(call: CallResult) -> CallResult:
        record = call.record
        if record is None or (not record.edits and record.carried is None):
            return call
        with_it = [] if record.carried is not None else trained_with(number(record), run)
        source = together(change for c in with_it if c.record for change in c.record.source)
        files = {path: digest for each in with_it for path, digest in each.files.items()}
        kept = source or ([] if record.carried is not None else record.source)
        update = {"source": kept}
        return replace(call, files={**call.files, **files}, record=record.model_copy(update=update))

    return replace(first, calls=tuple(map(counted, first.calls)))


def repaired_in_loops(run: Callable[[Job], ScriptResult], job: Job) -> ScriptResult:
    """Return what a repair of the script comes to, each fix judged by later calls.

    Where the loss of a model falls for ever in these, the steps were not at fault: the script runs
    once more, and this is known where the fix was found. That counts where no model diverges any
    more. With a folder that keeps the search there is one run.
    """
    first = judged_by_loops(run(job))
    falling = [call.call for call in first.calls if _falls(call, first)]
    if first.exit_code or not falling or job.run_dir is not None:
        return first
    log.info(FALLS.format(call=falling[0] + 1))
    again = judged_by_loops(run(job.model_copy(update={"falling": falling})))
    lost = {Outcome.DIVERGED, Outcome.EXHAUSTED, Outcome.UNREPAIRABLE}
    held = not again.exit_code and not lost & {call.outcome for call in again.calls}
    return again if held and again.calls else first


def _falls(call: CallResult, result: ScriptResult) -> bool:
    """Say whether a fix has been found in a call with which the loss of a model falls for ever."""
    found = call.record is not None and call.record.carried is None
    diverged = diverged_with(call, result) if found else None
    return diverged is not None and float(diverged.history.get("loss", "nan")) < 0.0


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
        text=_with_note(call.text, note),
        summary=call.summary and _with_note(call.summary, note),
        record=call.record.model_copy(update=update),
    )


def _with_note(text: str, note: str) -> str:
    """Return the words for a fix that was called a repair, as those for one that is none."""
    before, after = (f"{o.name}: {o.value}" for o in (Outcome.REPAIRED, Outcome.FINITE))
    return f"{text.replace(before, after, 1)}\n{note}"
