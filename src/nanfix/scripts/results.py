"""How a script ended, and what came of each of its fit calls."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from nanfix.records.errors import ExitCode
from nanfix.report.fix_file import DiagnosisRecord, RunRecord
from nanfix.report.report import Outcome

if TYPE_CHECKING:
    from nanfix.patch.patch import Patch

Proof = Literal["works", "fails"]
Verdict = Literal["works", "falls behind", "goes NaN", "fails", "not run"]


@dataclass(frozen=True)
class Use:
    """A call of `evaluate` or `predict` by the script, its line, and whether what it gave was
    finite.
    """

    method: str
    place: str | None
    finite: bool


@dataclass(frozen=True)
class Figure:
    """What a fit call of the patched script reached, beside what it did with the fix: the last
    value of what is logged under `name`, as text.
    """

    call: int
    name: str
    patched: str
    repaired: str


@dataclass(frozen=True)
class PatchRun:
    """What came of running the patched script where nanfix is not there: the verdict and a
    sentence. "not run" is also one that was ended before its time.
    """

    verdict: Verdict
    text: str
    figures: tuple[Figure, ...] = ()

    @property
    def is_bad(self) -> bool:
        return self.verdict not in ("works", "not run")


@dataclass(frozen=True)
class CallResult:
    """One fit call of the script, counted from 0, and what came of it.

    `outcome` and `record` are None when nanfix could not watch the call and Keras' own fit ran;
    `text` says why. `history` is the last value of each logged quantity, as text, `highest` the
    highest of any epoch of those that are single numbers, `files` the SHA-256 of the files that the
    fix changes. `summary` is the text without the diagnosis, where that was shown when the training
    failed. `proof` is None where nothing was to be proved. `diagnosis` is that of a call which was
    only explained, `candidates` what would be tried for it: fixes as lists of edits. `spread` is by
    how much the loss differs from seed to seed.
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
    spread: float = 0.0
    highest: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class ScriptResult:
    """How a script ended: its own exit code, its fit calls, remarks, and the fix.json
    that was written, if any.

    A saved model counts as a script with one fit call; `model` is where the repaired
    one was written, `notebook` where the patched one was. `patch` is the fix as a change of the
    script's own files, None where there is none, `patch_run` what running it so came to, `used` how
    the script used its models.
    """

    exit_code: int
    calls: tuple[CallResult, ...] = ()
    notes: tuple[str, ...] = ()
    written: Path | None = None
    model: Path | None = None
    notebook: Path | None = None
    patch: "Patch | None" = None
    patch_run: PatchRun | None = None
    used: tuple[Use, ...] = ()

    @property
    def code(self) -> int:
        """The exit code of nanfix: the script's own failure, or how its worst fit call ended, or
        that the patched script does not do what the fix does.
        """
        outcomes = {call.outcome for call in self.calls}
        if self.exit_code:
            return self.exit_code
        if not self.calls:
            return ExitCode.USAGE_ERROR
        if Outcome.UNREPAIRABLE in outcomes:
            return ExitCode.UNREPAIRABLE
        if Outcome.EXHAUSTED in outcomes or any(call.proof == "fails" for call in self.calls):
            return ExitCode.EXHAUSTED
        if Outcome.FINITE in outcomes:
            return ExitCode.FINITE
        return ExitCode.PARTIAL if self.patch_run is not None and self.patch_run.is_bad else 0
