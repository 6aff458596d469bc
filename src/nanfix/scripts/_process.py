"""Run a script once in a process of its own, and read what happened there."""

import json
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from nanfix.records import errors
from nanfix.records.errors import NanfixError
from nanfix.records.source_changes import CallChange, SourceChange
from nanfix.records.source_places import CALLS, Span
from nanfix.report.fix_file import DiagnosisRecord, RunRecord
from nanfix.report.report import Outcome
from nanfix.scripts._job import Job
from nanfix.scripts.results import CallResult, ScriptResult, Use
from nanfix.scripts.script import Module, Script

Event = Mapping[str, Any]  # a line of the events file; "kind" says which keys there are
NO_FIT = (
    "No call of model.fit was seen, so there was nothing to watch. nanfix repairs training by "
    "Keras' own fit; a loop written by hand (GradientTape, train_on_batch) has to be moved into a "
    "model's train_step first."
)


def run(script: Script, args: Sequence[str], job: Job) -> ScriptResult:
    """Run the script once in a child process and return what it did. Raises the
    NanfixError that stopped it, if any.
    """
    return result_of(*events_of(script, args, job))


def events_of(
    script: Script,
    args: Sequence[str],
    job: Job,
    *,
    silent: bool = False,
    seconds: float | None = None,
) -> tuple[int, list[Event]]:
    """Run the script once in a child process; return its exit code and what happened there.

    Args:
        silent: throw away what it prints.
        seconds: end it after so many.
    """
    with tempfile.TemporaryDirectory(prefix="nanfix-") as folder:
        events = Path(folder, "events.jsonl")
        job_file = Path(folder, "job.json")
        sent = job.model_copy(update={"module": isinstance(script, Module)})
        job_file.write_text(sent.model_dump_json(), encoding="utf-8")
        # -P: the working folder must not shadow a module while nanfix starts; the
        # script gets its own folder back.
        module = f"nanfix.scripts.{'plain_child' if job.mode == 'plain' else 'child'}"
        child = [module, str(job_file), str(events), str(script)]
        command = [sys.executable, "-P", "-m", *child, *args]
        output = subprocess.DEVNULL if silent else None
        with (
            subprocess.Popen(command, stdout=output, stderr=output) as process,
            _signals_passed_on(process),
        ):
            code = _wait(process, seconds)
        # Whole lines only.
        lines = events.read_text(encoding="utf-8").split("\n")[:-1] if events.exists() else []
    return 128 - code if code < 0 else code, [json.loads(line) for line in lines]


def result_of(code: int, events: Sequence[Event]) -> ScriptResult:
    """Return what a script did, from its exit code and the events of its process. Raises the
    NanfixError among them.
    """
    calls: list[CallResult] = []
    notes: list[str] = []
    used = uses(events)
    counts = _counts(events)
    for event in events:
        if event["kind"] == "error":
            raise getattr(errors, event["error"], NanfixError)(event["text"])
        if event["kind"] == "note":
            notes.append(event["text"])
        if event["kind"] in ("note", "used"):
            continue
        call = CallResult(event["call"], event["model"], event["text"])
        if event["kind"] == "diagnosis":
            diagnosis = event["diagnosis"] and DiagnosisRecord.model_validate_json(
                event["diagnosis"]
            )
            call = replace(call, diagnosis=diagnosis, candidates=event.get("candidates", ()))
        if event["kind"] == "fit":
            record = RunRecord.model_validate_json(event["record"])
            record = record.model_copy(
                update={"source": [_recounted(change, counts) for change in record.source]}
            )
            call = replace(
                call,
                outcome=Outcome[record.outcome],
                finite=event["finite"],
                record=record,
                history=event["history"],
                highest=event.get("highest", {}),
                files=event.get("files", {}),
                summary=event.get("summary"),
                spread=event.get("spread", 0.0),
            )
        calls.append(call)
    notes += [] if calls or code else [NO_FIT]
    return ScriptResult(code, tuple(calls), tuple(notes), used=used)


def uses(events: Sequence[Event]) -> tuple[Use, ...]:
    """Return how the script used its models, in this order."""
    used = (event for event in events if event["kind"] == "used")
    return tuple(Use(each["method"], each["place"], each["finite"]) for each in used)


def _counts(events: Sequence[Event]) -> dict[tuple[Span, str], int]:
    """Return how many objects each call in the script has made by its last fit."""
    last: Sequence[Any] = next(
        (event["counts"] for event in reversed(events) if event.get("counts")), ()
    )
    return {(Span.model_validate(place), callee): made for place, callee, made in last}


def _recounted(change: SourceChange, counts: Mapping[tuple[Span, str], int]) -> SourceChange:
    """Return a change with the number of things that its calls have made in the end."""
    update: dict[str, Any] = {}
    for name in CALLS:
        made = getattr(change, name, None)
        if made is not None:
            of_class = [count for (_, callee), count in counts.items() if callee == made.callee]
            at_place = counts.get((made.place, made.callee), made.made)
            count = sum(of_class) if isinstance(change, CallChange) else at_place
            update[name] = made.model_copy(update={"made": count})
    return change.model_copy(update=update)


def _wait(process: subprocess.Popen[bytes], seconds: float | None) -> int:
    while True:
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
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
