"""Runs a script once more, up to a training that failed of its data, to find the line that made
what is not finite in them.
"""

import logging
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

from nanfix.records.data_origin import DataOrigin
from nanfix.report.fix_file import DiagnosisRecord
from nanfix.scripts._job import Job, KnownFix
from nanfix.scripts._process import events_of
from nanfix.scripts.results import CallResult, ScriptResult
from nanfix.scripts.script import Script

log = logging.getLogger("nanfix")

LEAST = 60.0  # seconds that it may take
TIMES = 5.0  # as long as the script took; each line of the script takes longer when followed
RUN = (
    "What the training, or a layer of it, was given was not finite: running the script up to its "
    "fit call once more, to find the line that made it so (--no-trace leaves it out). What the "
    "script writes until then, it writes once more; what it prints is not shown."
)
NOT_FOUND = "The line that made the data non-finite was not found: {reason}."


def with_origins(
    first: ScriptResult,
    script: Script,
    args: Sequence[str],
    fixes: Mapping[int, KnownFix],
    seconds: float,
) -> ScriptResult:
    """Return what a script did with the lines that made its data non-finite, where that is what a
    training failed of.

    Args:
        fixes: of the fit calls, by number.
        seconds: how long the script has run.
    """
    explained = ((call, diagnosis_of(call)) for call in first.calls)
    failed = next((call for call, found in explained if found and found.is_of_data), None)
    if failed is None:
        return first
    log.info(RUN)
    earlier = {number: fix for number, fix in fixes.items() if number < failed.call}
    with tempfile.TemporaryDirectory(prefix="nanfix-trace-") as logs:
        job = Job(mode="trace", traced=failed.call, fixes=earlier, logs=logs)
        limit = max(LEAST, TIMES * seconds)
        began = time.monotonic()
        code, events = events_of(script, args, job, silent=True, seconds=limit)
    found = next((event for event in events if event["kind"] == "origins"), None)
    if found is not None and found["origins"]:
        origins = [DataOrigin.model_validate(origin) for origin in found["origins"]]
        calls = [_with(call, origins) if call is failed else call for call in first.calls]
        return replace(first, calls=tuple(calls))
    if time.monotonic() - began >= limit:
        reason = f"the script did not come to its fit call within {limit:.0f} s"
    elif found is not None and found["fault"] is not None:
        reason = f"nanfix itself failed while it followed the script ({found['fault']})"
    elif found is not None:
        reason = "no line of the script itself has made them, as far as it was followed"
    else:
        reason = f"run again, the script ended with exit code {code} before its fit call"
    return replace(first, notes=(*first.notes, NOT_FOUND.format(reason=reason)))


def diagnosis_of(call: CallResult) -> DiagnosisRecord | None:
    return call.diagnosis or (call.record and call.record.diagnosis)


def _with(call: CallResult, origins: Sequence[DataOrigin]) -> CallResult:
    """Return a call with the origins in its diagnosis and in its words."""
    words = "".join(f"\n{origin}." for origin in origins)
    update = {"origins": list(origins)}
    record, diagnosis = call.record, call.diagnosis
    if record is not None and record.diagnosis is not None:
        explained = record.diagnosis.model_copy(update=update)
        record = record.model_copy(update={"diagnosis": explained})
    return replace(
        call,
        text=call.text + words,
        summary=call.summary and call.summary + words,
        record=record,
        diagnosis=diagnosis and diagnosis.model_copy(update=update),
    )
