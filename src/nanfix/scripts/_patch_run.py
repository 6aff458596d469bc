"""The fix as a patch of the script's own files, and what the patched script reaches where nanfix is
not there.
"""

import logging
import math
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from nanfix.records.atomic import unwritable, write_bytes
from nanfix.records.errors import ExitCode, PatchError
from nanfix.records.loss_change import LossChange
from nanfix.report.fix_file import FixFile
from nanfix.report.report import Outcome
from nanfix.scripts._job import Job
from nanfix.scripts._kept_files import put_back
from nanfix.scripts._process import Event, events_of, uses
from nanfix.scripts.results import CallResult, Figure, PatchRun, ScriptResult, Use
from nanfix.scripts.script import Script
from nanfix.search.choice import limit

if TYPE_CHECKING:
    from nanfix.patch.patch import Patch

log = logging.getLogger("nanfix")

LEAST = 60.0  # seconds that it may take
TIMES = 3.0  # as long as the script took with the fix
RUN = (
    "---- The patched script is run, in a process without nanfix (--no-check-patch leaves it out). "
    "What it prints is not shown; what it writes over is put back."
)
RAN = "The patched script was run without nanfix"
NOT_RUN = "The patched script was not run, so it is not known whether the patch alone suffices"
LEFT_OUT = f"{NOT_RUN} (--no-check-patch, or --no-prove)."
LOSSES = ("val_loss", "loss")  # the first that is there is compared
WEIGHED = " The patch weighs the loss by a constant, which is left out here."
SHOWN = 3  # fit calls of which the figures are shown


def with_patch(result: ScriptResult) -> ScriptResult:
    """Return what a script did with the patch of the fixes that were found for it."""
    records = [call.record for call in result.calls if call.record is not None]
    if not any(record.source for record in records):
        return result
    from nanfix.patch.patch import patch_of

    files = {path: digest for call in result.calls for path, digest in call.files.items()}
    try:
        patch = patch_of(FixFile(files=files, runs=records), Path())
    except PatchError as error:  # the script has changed itself; the fix is good all the same
        return replace(result, notes=(*result.notes, str(error)))
    return replace(result, patch=patch)


def with_patch_run(
    result: ScriptResult,
    script: Script,
    args: Sequence[str],
    *,
    first: ScriptResult,
    seconds: float,
    left: float = math.inf,
) -> ScriptResult:
    """Return what a script did with what its patch comes to when it is run.

    Args:
        first: the run in which the fix was found; how far it differs from that of the proof, the
            figures of which `result` has, is noise.
        seconds: how long the script ran with the fix.
        left: seconds of the budget.
    """
    if result.patch is None or not result.patch.after:
        return result
    if left < seconds:
        run = _not_run(f"the rest of the budget, {left:.0f} s, is less than it takes")
        return replace(result, patch_run=run)
    began = time.monotonic()
    run = _run(result, script, args, first, min(max(LEAST, TIMES * seconds), left))
    left -= time.monotonic() - began
    if run.verdict == "falls behind" and left > seconds:
        # It may only have drawn worse weights: what two runs of it differ by is noise, too.
        most = min(max(LEAST, TIMES * seconds), left)
        run = _run(result, script, args, first, most, before=run.figures)
    return replace(result, patch_run=run)


def without_patch_run(result: ScriptResult) -> ScriptResult:
    """Return what a script did, with the remark that its patch was not run where there is one."""
    if result.patch is None or not result.patch.after:
        return result
    return replace(result, patch_run=PatchRun("not run", LEFT_OUT))


def with_notebook(result: ScriptResult, notebook: Path, save: Path) -> ScriptResult:
    """Return what a notebook did, the patched one written to `save`; nothing is written where it
    was run and does not do what the fix does.

    Raises:
        NanfixError: it cannot be written.
    """
    contents = {} if result.patch is None else result.patch.after
    patched = {Path(path).absolute(): content for path, content in contents.items()}
    after = patched.get(notebook.absolute())
    if after is None or (result.patch_run is not None and result.patch_run.is_bad):
        return result
    try:
        write_bytes(save, after)
    except OSError as error:
        raise unwritable(save, error) from error
    return replace(result, notebook=save)


def _run(
    result: ScriptResult,
    script: Script,
    args: Sequence[str],
    first: ScriptResult,
    most: float,
    before: Sequence[Figure] = (),
) -> PatchRun:
    assert result.patch is not None  # as its caller saw to
    with tempfile.TemporaryDirectory(prefix="nanfix-patched-") as folder:
        log.info(RUN)
        sources = _written(result.patch, Path(folder))
        job = Job(mode="plain", sources=sources, logs=str(Path(folder, "logs")))
        began = time.monotonic()
        try:
            code, events = events_of(script, args, job, silent=True, seconds=most)
        finally:
            put_back(Path(folder, "logs"))
        took = time.monotonic() - began
    obstacle = next((event["text"] for event in events if event["kind"] == "obstacle"), None)
    if obstacle is not None:
        return _not_run(f"what it writes over cannot be put back: {obstacle}", "not run to its end")
    if took >= most and code:
        return _not_run(f"it was ended after {took:.0f} s", "not run to its end")
    if code == ExitCode.INTERRUPTED:
        return _not_run("it was interrupted", "not run to its end")
    return judged(result, first, code, events, before)


def _written(patch: "Patch", folder: Path) -> dict[str, str]:
    """Write what the patched files hold into `folder`; return where, by their absolute paths."""
    found = {}
    for number, (path, content) in enumerate(patch.after.items()):
        copy = folder / str(number)
        copy.write_bytes(content)
        found[str(Path(path).absolute())] = str(copy)
    return found


def _not_run(reason: str, how: str = "not run") -> PatchRun:
    words = NOT_RUN.replace("not run", how, 1)
    return PatchRun("not run", f"{words}: {reason}.")


def judged(
    result: ScriptResult,
    first: ScriptResult,
    code: int,
    events: Sequence[Event],
    before: Sequence[Figure] = (),
) -> PatchRun:
    """Return what the run of a patched script comes to, beside that of the script with the fix and
    an earlier one of its own, which had the figures of `before`.
    """
    fits = {event["call"]: event for event in events if event["kind"] == "fit"}
    beside = [call for call in result.calls if call.call in fits and call.history]
    courses = {call.call: _unweighed(call, fits[call.call]["history"]) for call in beside}
    pairs = [(call, each) for call in beside for each in _figures(call, courses[call.call])]
    figures = tuple(figure for _, figure in pairs if figure is not None)
    raised = next((event for event in events if event["kind"] == "raised"), None)
    if raised is not None or code:
        return PatchRun("fails", f"{RAN}, and it ends with {_ending(raised, code)}.", figures)
    nan = next((call for call, figure in pairs if _turns_nan(call, figure, fits[call.call])), None)
    if nan is not None:
        words = f"it still goes NaN in fit call {nan.call + 1}, so it is not the whole fix"
        return PatchRun("goes NaN", f"{RAN}, and {words}.", figures)
    worse = next(filter(None, map(_worse_use, result.used, uses(events))), None)
    if worse is not None:
        return PatchRun("goes NaN", f"{RAN}, and {worse}.", figures)
    missing = [call for call in result.calls if call.call not in fits and _is_repaired(call)]
    if missing:
        words = f"it makes no fit call {missing[0].call + 1}, which the repaired one makes"
        return PatchRun("fails", f"{RAN}, and {words}.", figures)
    earlier = {call.call: call for call in first.calls}
    known = {(figure.call, figure.name): float(figure.patched) for figure in before}
    own = [figure for call, figure in pairs if figure is not None and _is_repaired(call)]
    behind = [
        each
        for each in own
        if not _reaches(
            each,
            courses[each.call][each.name],
            earlier.get(each.call),
            known.get((each.call, each.name), math.nan),
        )
    ]
    weighed = WEIGHED if any(change.weight for call in beside for change in _losses(call)) else ""
    if behind:
        words = f"it falls behind the repair: {_words(behind)}"
        return PatchRun("falls behind", f"{RAN}, and {words}.{weighed}", figures)
    return PatchRun("works", f"{RAN}: {_words(own) or 'it stays finite'}.{weighed}", figures)


def _times(call: CallResult) -> float:
    """Return by what the patch multiplies the loss that a fit call logs."""
    return math.prod(change.times for change in _losses(call))


def _losses(call: CallResult) -> list[LossChange]:
    changes = call.record.source if call.record is not None else []
    return [change for change in changes if isinstance(change, LossChange)]


def _unweighed(call: CallResult, history: Mapping[str, Sequence[str]]) -> dict[str, Sequence[str]]:
    """Return what a fit call of the patched script logged, the loss in the units of the repair."""
    times = _times(call)
    if times == 1.0:
        return dict(history)
    return {
        name: [_divided(value, times) for value in values] if name in LOSSES else values
        for name, values in history.items()
    }


def _divided(text: str, times: float) -> str:
    number = _number(text)
    return text if number is None else str(number / times)


def _is_repaired(call: CallResult) -> bool:
    """Say whether a fit call has a fix of its own, and not that of an earlier call."""
    carried = call.record is not None and call.record.carried is not None
    return call.outcome in (Outcome.REPAIRED, Outcome.FINITE) and not carried


def _turns_nan(call: CallResult, figure: Figure | None, fit: Event) -> bool:
    """Say whether a fit call of the patched script is not finite that is so with the fix."""
    if call.finite and not fit["finite"]:
        return True
    if figure is None or not math.isfinite(float(figure.repaired)):
        return False
    return not math.isfinite(float(figure.patched))


def _figures(call: CallResult, history: Mapping[str, Sequence[str]]) -> list[Figure | None]:
    """Return the figures by which a fit call of both runs is compared: the loss or, where a patch
    weighs those of single outputs otherwise, each of these; None for one that is not there.
    """
    outputs = [name for change in _losses(call) if change.of_outputs for name in change.outputs]
    if outputs:
        # Keras logs the losses of outputs without their weights.
        return [_figure(call, history, f"{name}_loss") for name in outputs]
    return [_figure(call, history, "loss")]


def _figure(call: CallResult, history: Mapping[str, Sequence[str]], loss: str) -> Figure | None:
    last = {name: values[-1] for name, values in history.items() if values}
    known = (
        Figure(call.call, name, last[name], call.history[name])
        for name in (f"val_{loss}", loss)
        if None not in (_number(last.get(name)), _number(call.history.get(name)))
    )
    return next(known, None)


def _reaches(
    figure: Figure, course: Sequence[str], earlier: CallResult | None, before: float
) -> bool:
    """Say whether a figure is as good as that of the repair, as losses of candidates are compared;
    what two runs with the fix, two of the patched script, or its seeds differ by is noise.

    Args:
        course: the figure after each epoch; one that is worse at first has learned that much, but
            no more than the repair did: numbers of another scale begin anywhere.
        earlier: the call in the run in which the fix was found.
        before: what the patched script reached in an earlier run, NaN for none.
    """
    patched, repaired = float(figure.patched), float(figure.repaired)
    if not math.isfinite(repaired):
        return True
    first = None if earlier is None else _number(earlier.history.get(figure.name))
    pairs = (first, repaired), (before, patched)
    noise = [abs(one - other) for one, other in pairs if one is not None and math.isfinite(one)]
    if earlier is not None and figure.name in LOSSES:
        noise.append(earlier.spread)
    begun = max((value for text in course if math.isfinite(value := float(text))), default=math.inf)
    begun = min(begun, math.inf if earlier is None else earlier.highest.get(figure.name, math.inf))
    best = min(patched, before) if math.isfinite(before) else patched
    return best <= limit(repaired, begun, max(noise, default=0.0))


def _number(text: str | None) -> float | None:
    """Return a figure as a number, NaN too; None for none, or for an array, which training steps of
    the user's own also log.
    """
    try:
        return None if text is None else float(text)
    except ValueError:
        return None


def _worse_use(repaired: Use, patched: Use) -> str | None:
    """Return that the patched script gets from a model what is not finite, and with the fix what
    is; None where that is not so.
    """
    if patched.finite or not repaired.finite or repaired.method != patched.method:
        return None
    where = f" at {patched.place}" if patched.place else ""
    return f"its {patched.method}{where} gives NaN or inf, which with the fix is finite"


def _ending(raised: Event | None, code: int) -> str:
    if raised is None:
        return f"exit code {code}"
    words = f"{raised['error']}: {raised['text']}" if raised["text"] else raised["error"]
    return f"{words} at {raised['place']} ({raised['line']})" if "place" in raised else words


def _words(figures: Sequence[Figure]) -> str:
    calls = len({figure.call for figure in figures})
    words = [
        f"{f'fit call {each.call + 1}, ' if calls > 1 else ''}{each.name} "
        f"{float(each.patched):.4g}, the repair reached {float(each.repaired):.4g}"
        for each in figures[:SHOWN]
    ]
    more = [f"and {len(figures) - SHOWN} more"] if len(figures) > SHOWN else []
    return "; ".join([*words, *more])
