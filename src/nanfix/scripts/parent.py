"""Run a training script unmodified in a child process, repair what goes NaN in it, and prove the
fix by a second run.
"""

import logging
import math
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

from nanfix.records.errors import ExitCode
from nanfix.remedies.fix import Fix
from nanfix.remedies.registry import check_choice
from nanfix.report.export import fix_paths, write_fix
from nanfix.report.fix_file import FixFile, beginnings, fixes, load
from nanfix.report.report import Outcome
from nanfix.scripts._job import Job, KnownFix
from nanfix.scripts._loops import (
    judged_by_loops,
    repaired_in_loops,
    trained_with,
    with_sources,
)
from nanfix.scripts._origins import with_origins
from nanfix.scripts._patch_run import (
    with_notebook,
    with_patch,
    with_patch_run,
    without_patch_run,
)
from nanfix.scripts._process import run
from nanfix.scripts.results import CallResult, Proof, ScriptResult
from nanfix.scripts.script import Script, check_script
from nanfix.search.workers.pool import ALONE, Workers

log = logging.getLogger("nanfix")

NOTHING: Mapping[str, Any] = MappingProxyType({})
SECOND_RUN = (
    "---- Second run of the script, with the fix and no search, to prove it (--no-prove leaves it "
    "out).\n"
    "What the script writes, it writes once more; what CSVLogger and TensorBoard log in it is "
    "thrown away."
)
SECOND_RUN_ENDED = "---- End of the second run."
NOT_RUN_AGAIN = "The script was not run again with the fix, to see that it works (--no-prove)."


def repair_script(  # noqa: PLR0913  # long: half of it explains the arguments
    script: Script,
    args: Sequence[str] = (),
    *,
    out: Path | None = None,
    budget: Mapping[str, float | None] = NOTHING,
    strategies: Sequence[str] | None = None,
    forbid: Sequence[str] = (),
    repair_divergence: bool = False,
    seed: int | None = None,
    run_dir: Path | None = None,
    workers: Workers = ALONE,
    prove: bool = True,
    trace: bool = True,
    check_patch: bool = True,
    save: Path | None = None,
) -> ScriptResult:
    """Run `script` with every fit call repaired where needed, then once more with the
    fixes alone, to prove them, and at last with its patch in a process without nanfix.

    The second run writes what the script itself writes once more; the logs of CSVLogger and
    TensorBoard stay those of the first.

    Args:
        out: the fix.json to write when every fix worked in the second run; also written
            into `run_dir`.
        budget: arguments of `nanfix.Budget`.
        run_dir: folder for the search of each call, in "call-0", "call-1", ...; an interrupted
            repair goes on there.
        workers: the processes that try fixes at the same time.
        prove: run the script a second time; without, the fix is written unproved.
        trace: where a training failed of data that are not finite, run the script once more up to
            that fit call, to name the line that made them so.
        check_patch: run the patched script, too, once the fix is proved.
        save: where the patched notebook is written, if the script is one and the patch does what
            the fix does, as far as it was run.

    Raises:
        ScriptError: there is no such script.
        UnknownStrategyError: a strategy is not installed.
        InputError: `forbid` leaves no strategy.
        NanfixError: `out` or `run_dir` cannot be written, or `run_dir` belongs to another run.
    """
    check_choice(strategies, forbid)
    check_script(script)
    targets = fix_paths(out, run_dir)
    job = Job(
        mode="repair",
        budget=dict(budget),
        strategies=None if strategies is None else list(strategies),
        forbid=list(forbid),
        repair_divergence=repair_divergence,
        seed=seed,
        run_dir=run_dir and str(run_dir.absolute()),
        workers=workers,
    )
    began = time.monotonic()
    first = repaired_in_loops(partial(run, script, args), job)
    repaired = {
        call.call: call
        for call in first.calls
        if call.outcome and call.outcome.has_fix and call.record and call.record.carried is None
    }
    if trace and first.exit_code != ExitCode.INTERRUPTED:
        known = _known_fixes(repaired, fixes)
        first = with_origins(first, script, args, known, time.monotonic() - began)
        repaired = {call.call: call for call in first.calls if call.call in repaired}
    if first.exit_code:
        return replace(first, notes=(*first.notes, *_unproved(repaired)))
    if not repaired:
        return first
    began = time.monotonic()
    proved = _proved(first, script, args, repaired) if prove else _not_proved(first)
    took = time.monotonic() - began
    proved = with_patch(proved)
    if any(call.proof == "fails" for call in proved.calls):
        return proved
    files = {path: digest for call in proved.calls for path, digest in call.files.items()}
    content = FixFile(
        script=script.name, files=files, runs=[call.record for call in proved.calls if call.record]
    )
    write_fix(content, targets)
    proved = replace(proved, written=targets[0] if targets else None)
    if check_patch and prove:
        left = _left(budget.get("seconds"), repaired)
        proved = with_patch_run(proved, script, args, first=first, seconds=took, left=left)
    else:
        proved = without_patch_run(proved)
    return proved if save is None else with_notebook(proved, Path(str(script)), save)


def _left(seconds: float | None, repaired: Mapping[int, CallResult]) -> float:
    """Return what the searches have left of the seconds that each may take."""
    spent = [
        sum(trial.seconds for trial in call.record.trials)
        for call in repaired.values()
        if call.record is not None
    ]
    return math.inf if seconds is None else sum(max(seconds - each, 0.0) for each in spent)


def diagnose_script(
    script: Script, args: Sequence[str] = (), *, trace: bool = True
) -> ScriptResult:
    """Run `script` until one of its trainings goes non-finite, and say why; nothing is
    repaired, and it ends there.

    With `trace` it runs once more up to that training, where data that are not finite were at
    fault, to name the line that made them so.

    Raises:
        ScriptError: there is no such script.
    """
    check_script(script)
    began = time.monotonic()
    first = run(script, args, Job(mode="diagnose"))
    return with_origins(first, script, args, {}, time.monotonic() - began) if trace else first


def plan_script(
    script: Script,
    args: Sequence[str] = (),
    *,
    budget: Mapping[str, float | None] = NOTHING,
    strategies: Sequence[str] | None = None,
    forbid: Sequence[str] = (),
    repair_divergence: bool = False,
) -> ScriptResult:
    """Run `script` as `diagnose_script` does, and list what `repair_script` would try, in order.

    Raises:
        ScriptError: there is no such script.
        UnknownStrategyError: a strategy is not installed.
        InputError: `forbid` leaves no strategy.
    """
    check_choice(strategies, forbid)
    check_script(script)
    job = Job(
        mode="plan",
        budget=dict(budget),
        strategies=None if strategies is None else list(strategies),
        forbid=list(forbid),
        repair_divergence=repair_divergence,
    )
    return run(script, args, job)


def run_script_with_fix(script: Script, args: Sequence[str], fix: Path) -> ScriptResult:
    """Run `script` with the fixes in the file `fix` applied to its fit calls, without any search.

    Raises:
        ScriptError: there is no such script.
        FixFormatError, UnknownStrategyError: the file cannot be used; nothing was run.
    """
    known = beginnings(load(fix))
    check_script(script)
    held = {number: KnownFix.of(fix) for number, fix in known.items()}
    result = run(script, args, Job(mode="run", fixes=held))
    result = with_sources(result, result, lambda record: record.call)
    unused = sorted(set(known) - {call.call for call in result.calls})
    notes = [
        (
            f"The fix for fit call {number + 1} was not used: the script made {len(result.calls)} "
            "calls."
        )
        for number in unused
    ]
    return with_patch(replace(result, notes=(*result.notes, *notes)))


def _proved(
    first: ScriptResult, script: Script, args: Sequence[str], repaired: Mapping[int, CallResult]
) -> ScriptResult:
    """Run the script once more with the fixes alone; return `first` with what that came to."""
    known = _known_fixes(repaired, beginnings)
    log.info(SECOND_RUN)
    with tempfile.TemporaryDirectory(prefix="nanfix-proof-") as logs:
        second = run(script, args, Job(mode="run", fixes=known, logs=logs))
    log.info(SECOND_RUN_ENDED)
    proved = judged_by_loops(_prove(first, second), second)
    proved = with_sources(proved, second, lambda record: record.begins)
    return replace(proved, used=second.used)


def _not_proved(first: ScriptResult) -> ScriptResult:
    with_changes = with_sources(first, first, lambda record: record.call)
    return replace(with_changes, notes=(*first.notes, NOT_RUN_AGAIN))


def _known_fixes(
    repaired: Mapping[int, CallResult], by_call: Callable[[FixFile], Mapping[int, Fix]]
) -> dict[int, KnownFix]:
    """Return the fixes of the repaired calls as a job holds them, `by_call`."""
    records = {number: call.record for number, call in repaired.items() if call.record is not None}
    runs = [record.model_copy(update={"call": number}) for number, record in records.items()]
    return {number: KnownFix.of(fix) for number, fix in by_call(FixFile(runs=runs)).items()}


def _prove(first: ScriptResult, second: ScriptResult) -> ScriptResult:
    """Return `first` with the proof of each repaired call: did it stay finite in the second run, by
    the fix alone, and with it every call that had the fix there?
    """
    again = {call.call: call for call in second.calls}

    def judged(call: CallResult) -> CallResult:
        record = call.record
        if call.outcome is None or not call.outcome.has_fix or record is None:
            return call
        seen, with_it = again.get(call.call), trained_with(record.begins, second)
        held = seen is not None and all(map(_held, [seen, *with_it]))
        proof: Proof = "works" if held and not second.exit_code else "fails"
        history = seen.history if seen else {}
        proved = record.model_copy(update={"proof": proof})
        return replace(call, proof=proof, history=history, record=proved)

    notes = (
        [f"Run again with the fix, the script ended with exit code {second.exit_code}."]
        if second.exit_code
        else []
    )
    return replace(
        first, calls=tuple(judged(call) for call in first.calls), notes=(*first.notes, *notes)
    )


def _held(seen: CallResult) -> bool:
    """Say whether a fit call of the second run stayed finite by the fix alone."""
    carried = seen.record is not None and seen.record.carried is not None
    finite = (Outcome.REPAIRED, Outcome.HEALTHY, *((Outcome.DIVERGED,) if carried else ()))
    return bool(seen.finite) and seen.outcome in finite


def _unproved(repaired: Mapping[int, CallResult]) -> list[str]:
    if not repaired:
        return []
    return [
        (
            "The script failed after its training was repaired, so the fix could not be proved "
            "and was not written."
        )
    ]
