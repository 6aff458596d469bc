"""Run a training script unmodified in a child process, repair what goes NaN in it, and prove the fix by a second run."""

import json
import logging
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from nanfix.records import errors
from nanfix.records.atomic import check_writable, unwritable, write_text
from nanfix.records.errors import ExitCode, NanfixError, ScriptError
from nanfix.records.source_changes import Span, recounted
from nanfix.remedies.fix import Fix
from nanfix.remedies.registry import check_choice
from nanfix.report.fix_file import DiagnosisRecord, FixFile, RunRecord, fixes, load
from nanfix.report.report import Outcome
from nanfix.search.workers.pool import ALONE, Workers

log = logging.getLogger("nanfix")

Proof = Literal["held", "did not hold"]
NOTHING: Mapping[str, Any] = MappingProxyType({})
NO_FIT = (
    "No call of model.fit was seen, so there was nothing to watch. nanfix repairs training by Keras' own fit; a loop "
    "written by hand (GradientTape, train_on_batch) has to be moved into a model's train_step first."
)
SECOND_RUN = (
    "---- Second run of the script, with the fix and no search, to prove it (--no-prove leaves it out).\n"
    "What the script writes, it writes once more; what CSVLogger and TensorBoard log in it is thrown away."
)
SECOND_RUN_ENDED = "---- End of the second run."
NOT_RUN_AGAIN = "The fix is not proved: the script was not run again with it (--no-prove)."


@dataclass(frozen=True)
class Module:
    """A script given by the name of its module, as `python -m` takes it."""

    name: str

    def __str__(self):
        return self.name


Script = Path | Module


@dataclass(frozen=True)
class CallResult:
    """One fit call of the script, counted from 0, and what came of it.

    `outcome` and `record` are None when nanfix could not watch the call and Keras' own fit ran; `text` says why.
    `history` is the last value of each logged quantity, as text, `files` the SHA-256 of the files that the fix changes.
    `summary` is the text without the diagnosis, where that was shown when the training failed.
    `proof` is None where nothing was to be proved. `diagnosis` is that of a call which was only explained, `candidates` what
    would be tried for it: fixes as lists of edits.
    """

    call: int
    model: str
    text: str
    outcome: Outcome | None = None
    finite: bool | None = None
    history: Mapping[str, str] = field(default_factory=dict)
    record: RunRecord | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    proof: Proof | None = None
    diagnosis: DiagnosisRecord | None = None
    candidates: Sequence[Sequence[Mapping[str, Any]]] = ()
    summary: str | None = None


@dataclass(frozen=True)
class ScriptResult:
    """How a script ended: its own exit code, its fit calls, remarks, and the fix.json that was written, if any.

    A saved model counts as a script with one fit call; `model` is where the repaired one was written.
    """

    exit_code: int
    calls: tuple[CallResult, ...] = ()
    notes: tuple[str, ...] = ()
    written: Path | None = None
    model: Path | None = None

    @property
    def code(self) -> int:
        """The exit code of nanfix: the script's own failure, or how its worst fit call ended."""
        outcomes = {call.outcome for call in self.calls}
        if self.exit_code:
            return self.exit_code
        if not self.calls:
            return ExitCode.USAGE_ERROR
        if Outcome.UNREPAIRABLE in outcomes:
            return ExitCode.UNREPAIRABLE
        if Outcome.EXHAUSTED in outcomes or any(call.proof == "did not hold" for call in self.calls):
            return ExitCode.EXHAUSTED
        return 0


def repair_script(
    script: Script,
    args: Sequence[str] = (),
    *,
    out: Path | None = None,
    budget: Mapping[str, float | None] = NOTHING,
    strategies: Sequence[str] | None = None,
    forbid: Sequence[str] = (),
    seed: int | None = None,
    run_dir: Path | None = None,
    workers: Workers = ALONE,
    prove: bool = True,
) -> ScriptResult:
    """Run `script` with every fit call repaired where needed, then once more with the fixes alone, to prove them.

    The second run writes what the script itself writes once more; the logs of CSVLogger and TensorBoard stay those of the first.

    Args:
        out: the fix.json to write when every fix held in the second run; also written into `run_dir`.
        budget: arguments of `nanfix.Budget`.
        run_dir: folder for the search of each call, in "call-0", "call-1", ...; an interrupted repair goes on there.
        workers: the processes that try fixes at the same time.
        prove: run the script a second time; without, the fix is written unproved.

    Raises:
        ScriptError: there is no such script.
        UnknownStrategyError: a strategy is not installed.
        InputError: `forbid` leaves no strategy.
        NanfixError: `out` or `run_dir` cannot be written, or `run_dir` belongs to another run.
    """
    check_choice(strategies, forbid)
    check_script(script)
    targets = [path for path in (out, run_dir and run_dir / "fix.json") if path]
    for path in targets:
        check_writable(path, folders=path != out)
    job = {"mode": "repair", "seed": seed, "run_dir": run_dir and str(run_dir.absolute()), "workers": asdict(workers)}
    first = _run(script, args, {**job, **_search(budget, strategies, forbid)})
    repaired = {call.call: call for call in first.calls if call.outcome is Outcome.REPAIRED and call.record}
    if first.exit_code:
        return replace(first, notes=(*first.notes, *_unproved(repaired)))
    if not repaired:
        return first
    proved = _proved(first, script, args, repaired) if prove else replace(first, notes=(*first.notes, NOT_RUN_AGAIN))
    if any(call.proof == "did not hold" for call in proved.calls):
        return proved
    files = {path: digest for call in proved.calls for path, digest in call.files.items()}
    content = FixFile(script=script.name, files=files, runs=[call.record for call in proved.calls if call.record])
    for path in targets:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_text(path, str(content))
        except OSError as error:
            raise unwritable(path, error) from error
    return replace(proved, written=targets[0] if targets else None)


def diagnose_script(script: Script, args: Sequence[str] = ()) -> ScriptResult:
    """Run `script` until one of its trainings goes non-finite, and say why; nothing is repaired, and it ends there.

    Raises:
        ScriptError: there is no such script.
    """
    check_script(script)
    return _run(script, args, {"mode": "diagnose"})


def plan_script(
    script: Script,
    args: Sequence[str] = (),
    *,
    budget: Mapping[str, float | None] = NOTHING,
    strategies: Sequence[str] | None = None,
    forbid: Sequence[str] = (),
) -> ScriptResult:
    """Run `script` as `diagnose_script` does, and list what `repair_script` would try, in order.

    Raises:
        ScriptError: there is no such script.
        UnknownStrategyError: a strategy is not installed.
        InputError: `forbid` leaves no strategy.
    """
    check_choice(strategies, forbid)
    check_script(script)
    return _run(script, args, {"mode": "plan", **_search(budget, strategies, forbid)})


def run_script_with_fix(script: Script, args: Sequence[str], fix: Path) -> ScriptResult:
    """Run `script` with the fixes in the file `fix` applied to its fit calls, without any search.

    Raises:
        ScriptError: there is no such script.
        FixFormatError, UnknownStrategyError: the file cannot be used; nothing was run.
    """
    known = fixes(load(fix))
    check_script(script)
    result = _run(script, args, {"mode": "run", "fixes": {str(n): _written(f) for n, f in known.items()}})
    unused = sorted(set(known) - {call.call for call in result.calls})
    notes = [f"The fix for fit call {number + 1} was not used: the script made {len(result.calls)} calls." for number in unused]
    return replace(result, notes=(*result.notes, *notes))


def _search(budget: Mapping[str, Any], strategies: Sequence[str] | None, forbid: Sequence[str]) -> dict[str, Any]:
    return {"budget": dict(budget), "strategies": strategies and list(strategies), "forbid": list(forbid)}


def check_script(script: Script) -> None:
    """Raise ScriptError unless there is a script to run; a module is looked for by the process that runs it."""
    if isinstance(script, Path) and not script.is_file():
        received = "a folder" if script.is_dir() else "no such file"
        raise ScriptError(
            f"Cannot run {str(script)!r}. Expected: a Python training script. Received: {received}. Check the path; options "
            "of nanfix stand before the script, options of the script after it."
        )
    if isinstance(script, Path) and script.suffix == ".ipynb":
        raise ScriptError(
            f"Cannot run {str(script)!r}. Expected: a Python training script. Received: a notebook. In the notebook itself, call "
            "nanfix.fit(model, ...) in the place of model.fit(...); or make a script of it: "
            f"jupyter nbconvert --to script {shlex.quote(str(script))}"
        )


def _written(fix: Fix) -> dict[str, Any]:
    """Return a fix as the job of a run holds it."""
    return {"edits": [edit.as_json() for edit in fix.edits], "layers": fix.layers}


def _proved(first: ScriptResult, script: Script, args: Sequence[str], repaired: Mapping[int, CallResult]) -> ScriptResult:
    """Run the script once more with the fixes alone; return `first` with what that came to."""
    records = {number: call.record for number, call in repaired.items() if call.record is not None}
    found = fixes(FixFile(runs=[record.model_copy(update={"call": number}) for number, record in records.items()]))
    edits = {str(number): _written(fix) for number, fix in found.items()}
    log.info(SECOND_RUN)
    with tempfile.TemporaryDirectory(prefix="nanfix-proof-") as logs:
        second = _run(script, args, {"mode": "run", "fixes": edits, "logs": logs})
    log.info(SECOND_RUN_ENDED)
    return _prove(first, second)


def _prove(first: ScriptResult, second: ScriptResult) -> ScriptResult:
    """Return `first` with the proof of each repaired call: did it stay finite in the second run, by the fix alone?"""
    again = {call.call: call for call in second.calls}

    def judged(call: CallResult) -> CallResult:
        if call.outcome is not Outcome.REPAIRED or call.record is None:
            return call
        seen = again.get(call.call)
        held = seen is not None and bool(seen.finite) and seen.outcome in (Outcome.REPAIRED, Outcome.HEALTHY)
        proof: Proof = "held" if held and not second.exit_code else "did not hold"
        history = seen.history if seen else {}
        return replace(call, proof=proof, history=history, record=call.record.model_copy(update={"proof": proof}))

    notes = [f"Run again with the fix, the script ended with exit code {second.exit_code}."] if second.exit_code else []
    return replace(first, calls=tuple(judged(call) for call in first.calls), notes=(*first.notes, *notes))


def _unproved(repaired: Mapping[int, CallResult]) -> list[str]:
    if not repaired:
        return []
    return ["The script failed after its training was repaired, so the fix could not be proved and was not written."]


def _run(script: Script, args: Sequence[str], job: Mapping[str, Any]) -> ScriptResult:
    """Run the script once in a child process and return what it did. Raises the NanfixError that stopped it, if any."""
    with tempfile.TemporaryDirectory(prefix="nanfix-") as folder:
        events = Path(folder, "events.jsonl")
        job_file = Path(folder, "job.json")
        job_file.write_text(json.dumps({**job, "events": str(events), "module": isinstance(script, Module)}), encoding="utf-8")
        # -P: the working folder must not shadow a module while nanfix starts; the script gets its own folder back.
        command = [sys.executable, "-P", "-m", "nanfix.scripts.child", str(job_file), str(script), *args]
        with subprocess.Popen(command) as process, _signals_passed_on(process):
            code = _wait(process)
        lines = events.read_text(encoding="utf-8").split("\n")[:-1] if events.exists() else []  # whole lines only
    return _result(128 - code if code < 0 else code, [json.loads(line) for line in lines])


def _result(code: int, events: Sequence[Mapping[str, Any]]) -> ScriptResult:
    calls: list[CallResult] = []
    notes: list[str] = []
    counts = _counts(events)
    for event in events:
        if event["kind"] == "error":
            raise getattr(errors, event["error"], NanfixError)(event["text"])
        if event["kind"] == "note":
            notes.append(event["text"])
            continue
        call = CallResult(event["call"], event["model"], event["text"])
        if event["kind"] == "diagnosis":
            diagnosis = event["diagnosis"] and DiagnosisRecord.model_validate_json(event["diagnosis"])
            call = replace(call, diagnosis=diagnosis, candidates=event.get("candidates", ()))
        if event["kind"] == "fit":
            record = RunRecord.model_validate_json(event["record"])
            record = record.model_copy(update={"source": [recounted(change, counts) for change in record.source]})
            outcome, told = Outcome[record.outcome], {"history": event["history"], "files": event.get("files", {})}
            told["summary"] = event.get("summary")
            call = replace(call, outcome=outcome, finite=event["finite"], record=record, **told)
        calls.append(call)
    return ScriptResult(code, tuple(calls), (*notes, *([] if calls or code else [NO_FIT])))


def _counts(events: Sequence[Mapping[str, Any]]) -> dict[tuple[Span, str], int]:
    """Return how many objects each call in the script has made by its last fit."""
    last: Sequence[Any] = next((event["counts"] for event in reversed(events) if event.get("counts")), ())
    return {(Span.model_validate(place), callee): made for place, callee, made in last}


def _wait(process: subprocess.Popen[bytes]) -> int:
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            if not sys.stdin.isatty():  # a terminal has sent it to the script as well
                process.send_signal(signal.SIGINT)


@contextmanager
def _signals_passed_on(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Pass a request to terminate on to the script, which would otherwise go on alone."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
