"""The format of a fix.json: what it holds, how a report becomes one, and how it is read
back and checked.
"""

import contextlib
import inspect
import json
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from nanfix.records.data_origin import DataOrigin
from nanfix.records.diagnosis import IN_DATA, OF_DATA, Diagnosis
from nanfix.records.errors import FixFormatError
from nanfix.records.source_changes import SourceChange
from nanfix.remedies.fix import Edit, Fix
from nanfix.remedies.registry import get
from nanfix.report.trial import TrialRecord

if TYPE_CHECKING:  # a report exports itself
    from nanfix.report.report import Report

SCHEMA_VERSION = 1


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FindingRecord(_Record):
    """One possible cause: its name, the strength of the evidence from 0 to 1, and the
    evidence in words.
    """

    cause: str
    weight: float | None
    evidence: str


class DiagnosisRecord(_Record):
    """What went non-finite, when, where and why; the likeliest cause is `cause` and the
    first of `findings`. `origins` are the lines of the user's that made data non-finite.
    """

    cause: str
    epoch: int
    step: int
    phase: str
    layer: str | None = None
    operation: str | None = None
    source: str | None = None
    values: str | None = None
    rows: list[int] = []
    learning_rate: float | None = None
    gradient_norm: float | None = None
    weight_norm: float | None = None
    hopeless: str | None = None
    findings: list[FindingRecord]
    origins: list[DataOrigin] = []

    @property
    def is_of_data(self) -> bool:
        """Whether data that are not finite are at fault, or may be; see Diagnosis."""
        named = {finding.cause for finding in self.findings}
        return bool(named & {cause.name for cause in OF_DATA}) or self.phase in {
            phase.name for phase in IN_DATA
        }


class EditRecord(BaseModel):
    """A strategy and, beside its name, its parameters."""

    model_config = ConfigDict(extra="allow", frozen=True)
    strategy: str


class TriedRecord(_Record):
    """One candidate fix of the search and what came of it; `loss` is null when it went
    non-finite or was refused.
    """

    edits: list[EditRecord]
    started_from: str
    steps: int
    loss: float | None
    verdict: str
    seconds: float
    reason: str = ""

    def __str__(self):
        return self.model_dump_json() + "\n"


class RunRecord(_Record):
    """One fit call: how it ended, why, what was changed and what was tried. `call` counts a
    script's calls from 0.

    `source` is what the fix changes in the source of the script, `fingerprint` what
    identifies model and data. A run with the fix uses it from the call `begins` on, and so in every
    later call at the same place; null for the call itself. `carried` is the call whose fix this one
    has trained with, without a search and without edits of its own.
    """

    call: int = Field(0, ge=0)
    model: str = ""
    outcome: Literal[
        "HEALTHY", "REPAIRED", "FINITE", "DIVERGED", "UNREPAIRABLE", "EXHAUSTED", "INTERRUPTED"
    ]
    proof: Literal["works", "fails"] | None = None
    seed: int | None = None
    seconds: float = 0.0
    diagnosis: DiagnosisRecord | None = None
    edits: list[EditRecord] = []
    begins: int | None = None
    carried: int | None = None
    trials: list[TriedRecord] = []
    notes: list[str] = []
    fingerprint: dict[str, Any] = {}  # as `run_dir.fingerprint` describes model and data
    source: list[SourceChange] = []


class FixFile(_Record):
    """The content of a fix.json: the versions it was made with, and one run for each fit call.

    `files` has the SHA-256 of every file of the script that a run's `source` names, by its path
    from the folder of the repair.
    """

    schema_version: Literal[1] = SCHEMA_VERSION
    nanfix: str = Field(default_factory=lambda: installed("nanfix"))
    keras: str = Field(default_factory=lambda: installed("keras"))
    tensorflow: str = Field(default_factory=lambda: installed("tensorflow"))
    script: str | None = None
    files: dict[str, str] = {}
    runs: list[RunRecord]

    def __str__(self):
        return self.model_dump_json(indent=2) + "\n"


def installed(package: str) -> str:
    """Return the version of an installed package, or "unknown"; loads nothing."""
    with contextlib.suppress(PackageNotFoundError):
        return version(package)
    # tensorflow-cpu and the like.
    return getattr(sys.modules.get(package), "__version__", "unknown")


def run_record(report: "Report", *, call: int = 0) -> RunRecord:
    """Return the part of a fix.json that describes one report."""
    return RunRecord(
        call=call,
        model=getattr(report.model, "name", "") or "",
        outcome=report.outcome.name,
        seed=report.seed,
        seconds=report.seconds,
        diagnosis=None if report.diagnosis is None else diagnosis_record(report.diagnosis),
        edits=_edit_records(report.fix.edits),
        trials=[tried_record(trial) for trial in report.trials],
        notes=list(report.notes),
        fingerprint=dict(report.fingerprint),
    )


def tried_record(trial: TrialRecord) -> TriedRecord:
    """Return one trial of a search as a fix.json holds it."""
    return TriedRecord(**{**vars(trial), "edits": _edit_records(trial.edits)})


def read_trial(text: str) -> TrialRecord:
    """Return the trial that was written as this text."""
    record = TriedRecord.model_validate_json(text)
    return TrialRecord(
        **{
            **dict(record),
            "edits": tuple(Edit.from_json(edit.model_dump()) for edit in record.edits),
        }
    )


def load(path: Path) -> FixFile:
    """Return the checked content of a fix.json; every strategy in it is installed and
    takes the parameters given.

    Raises:
        FixFormatError: the file is unreadable, truncated, of another schema version, or
            no fix.json at all.
        UnknownStrategyError: it names a strategy that is not installed.
    """
    data = _parse(path)
    found = data["schema_version"]
    if type(found) is not int or found != SCHEMA_VERSION:
        newer = isinstance(found, int) and found > SCHEMA_VERSION
        remedy = (
            "Install a newer nanfix to read it."
            if newer
            else "Make it again with `nanfix repair` or `report.export`."
        )
        raise FixFormatError(
            f"{str(path)!r} was written by schema version {found!r}. Expected: {SCHEMA_VERSION}. "
            f"Received: {found!r}. {remedy}"
        )
    try:
        content = FixFile.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        _refuse(path, f"{where}: {first['msg']}")
    for run in content.runs:
        for edit in run.edits:
            _check_parameters(path, edit)
    if len({run.call for run in content.runs}) != len(content.runs):
        _refuse(path, "two runs with the same call number")
    return content


def fixes(content: FixFile) -> dict[int, Fix]:
    """Return the fix of each fit call that has one, by the call's number."""
    return {
        run.call: Fix.from_json(
            (edit.model_dump() for edit in run.edits), run.fingerprint.get("model")
        )
        for run in content.runs
        if run.edits
    }


def beginnings(content: FixFile) -> dict[int, Fix]:
    """Return the fixes by the number of the first fit call that begins with each."""
    begins = {run.call: run.call if run.begins is None else run.begins for run in content.runs}
    return {begins[call]: fix for call, fix in fixes(content).items()}


def read_fix(path: str | Path, *, call: int | None = None) -> Fix:
    """Return the fix in a fix.json. `call` picks one where the file holds fixes for
    several fit calls.

    Raises:
        FixFormatError: as in `load`, or the file holds no fix, or several and `call` picks none.
        UnknownStrategyError: it names a strategy that is not installed.
    """
    content = load(Path(path))
    return fixes(content)[repaired_call(Path(path), content, call)]


def repaired_call(path: Path, content: FixFile, call: int | None) -> int:
    """Return the number of the fit call whose fix is meant: `call`, or for None the
    only one with a fix.

    Raises:
        FixFormatError: there is no such fix in the `content` of `path`, or there are
            several and `call` is None.
    """
    found = fixes(content)
    if call is None and len(found) == 1:
        return next(iter(found))
    if call in found:
        return call
    if not found:
        _refuse(
            path,
            "a run that needed no fix or found none",
            expected="a fix.json with at least one edit",
        )
    _refuse(
        path,
        f"call={call}" if call is not None else "no call number",
        expected=f"the number of one of its fit calls: {', '.join(map(str, found))}",
    )


def diagnosis_record(diagnosis: Diagnosis) -> DiagnosisRecord:
    """Return the part of a fix.json that describes a diagnosis."""
    place = diagnosis.place
    return DiagnosisRecord(
        cause=diagnosis.cause.name,
        epoch=diagnosis.onset.epoch,
        step=diagnosis.onset.step,
        phase=place.phase.name,
        layer=place.layer,
        operation=place.operation,
        source=place.source,
        values=place.values,
        rows=[int(row) for row in diagnosis.rows],
        learning_rate=diagnosis.learning_rate,
        gradient_norm=diagnosis.gradient_norm,
        weight_norm=diagnosis.weight_norm,
        hopeless=diagnosis.hopeless,
        findings=[
            FindingRecord(cause=f.cause.name, weight=f.weight, evidence=f.evidence)
            for f in diagnosis.findings
        ],
        origins=list(diagnosis.origins),
    )


def _edit_records(edits: tuple[Edit, ...]) -> list[EditRecord]:
    return [EditRecord.model_validate(edit.as_json()) for edit in edits]


def _parse(path: Path) -> dict[str, Any]:
    """Return the JSON object in `path`, which has a schema_version."""
    try:
        data = json.loads(
            path.read_bytes(),
            parse_constant=lambda constant: _refuse(path, f"the number {constant}"),
        )
    except OSError as error:
        raise FixFormatError(
            f"Cannot read {str(path)!r}: {error.strerror}. Expected: a fix.json written by nanfix. "
            f"Received: {str(path)!r}. Check the path."
        ) from error
    except ValueError as error:
        if isinstance(error, FixFormatError):
            raise
        _refuse(path, f"text that is not JSON, or truncated ({error})")
    if not isinstance(data, dict) or "schema_version" not in data:
        _refuse(path, "JSON without a schema_version")
    return data


def _refuse(path: Path, received: str, expected: str = "a fix.json written by nanfix") -> NoReturn:
    raise FixFormatError(
        f"Cannot use {str(path)!r} as a fix. Expected: {expected}. Received: {received}. "
        "Make it with `nanfix repair` or `report.export`."
    )


def _check_parameters(path: Path, edit: EditRecord) -> None:
    strategy = get(edit.strategy)
    try:
        inspect.signature(strategy.apply).bind(None, None, **(edit.model_extra or {}))
    except TypeError as error:
        _refuse(path, f"{edit.strategy} with wrong parameters ({error})")
