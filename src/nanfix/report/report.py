"""What nanfix.fit hands back: how it ended, why, and what was changed."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nanfix.changes.plan import Plan
from nanfix.model.faults import Fault
from nanfix.model.run import Run
from nanfix.records.diagnosis import Diagnosis
from nanfix.remedies.fix import Edit, Fix
from nanfix.remedies.registry import get
from nanfix.report.as_html import as_html
from nanfix.report.export import export
from nanfix.report.trial import TrialRecord, instead_of, tried

if TYPE_CHECKING:  # TensorFlow is loaded when a training is watched, not to read a fix
    import keras

    from nanfix.recorder.recording import RecorderUsage


class Outcome(Enum):
    """How a run ended. The value says to the user what it means and what to do next."""

    HEALTHY = "Training stayed finite; nothing was changed."
    REPAIRED = "The run failed and was repaired; the fix lists every change."
    FINITE = (
        "With the fix the run stays finite, but it falls short of a repair; fix, model and history "
        "are yours to judge."
    )
    DIVERGED = (
        "Training stayed finite, but loss and weights have grown by orders of magnitude; nothing "
        "was changed."
    )
    UNREPAIRABLE = "No change to model or training can help; the diagnosis says why."
    EXHAUSTED = (
        "No fix worked; the model is in its last finite state. Where the budget was spent, a "
        "larger one may find a fix."
    )
    INTERRUPTED = (
        "Stopped before a fix was proved; the model is in its last finite state. The same call "
        "with the same run_dir goes on."
    )

    @property
    def has_fix(self) -> bool:
        """Whether the model has been trained with a fix, and is handed over with it."""
        return self in (Outcome.REPAIRED, Outcome.FINITE)


@dataclass(frozen=True)
class Report:
    """The one result of nanfix.fit, whatever the ending.

    `trials` are the candidates of the search in order, `refused` gives by strategy the reason why
    one for this cause was not among them, `fingerprint` the model's layers and the shapes of the
    data, as `run_dir.fingerprint` describes them. `run` are the facts of the run, as it was before
    it was repaired, without its data; `stages` is the plan after each edit of the fix. `faults` are
    exceptions of nanfix's own, which have cost the user no more than nanfix. `spread` is by how
    much the losses of the proof's seeds differ, 0.0 where that is not known.
    """

    outcome: Outcome
    model: "keras.Model"
    history: dict[str, list[float]]
    epoch: list[int]
    params: dict[str, Any]
    diagnosis: Diagnosis | None = None
    fix: Fix = field(default_factory=Fix)
    trials: tuple[TrialRecord, ...] = ()
    notes: tuple[str, ...] = ()
    refused: Mapping[str, str] = field(default_factory=dict)
    seed: int | None = None
    seconds: float = 0.0
    recorder: "RecorderUsage | None" = None
    fingerprint: Mapping[str, Any] = field(default_factory=dict)
    run: Run | None = None
    stages: tuple[Plan, ...] = ()
    faults: tuple[Fault, ...] = ()
    spread: float = 0.0

    def export(self, path: str | Path) -> None:
        """Write fix.json, model.keras and snippet.py into the folder `path`, each of
        them whole or not at all.

        Raises:
            NanfixError: the folder cannot be written, or the model cannot be saved by Keras.
        """
        export(self, Path(path))

    def __str__(self):
        parts = [f"{self.outcome.name}: {self.outcome.value}"]
        if self.diagnosis is not None:
            parts.append(str(self.diagnosis))
        if self.fix:
            parts.append("Fix:\n" + "\n".join(f"  {line}" for line in str(self.fix).splitlines()))
            parts += filter(None, [instead_of(self.trials, self.fix.edits, self._treats_the_cause)])
        if self.outcome is Outcome.EXHAUSTED:
            parts += tried(self.trials)
        parts += [f"Not tried: {name}, since {reason}." for name, reason in self._worth_telling()]
        parts += self.notes
        if self.recorder is not None and self.recorder.folder is not None:
            parts.append(str(self.recorder))
        return "\n".join(parts)

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """Let IPython show the report as print does where there is no HTML."""
        printer.text(str(self))

    def _repr_html_(self) -> str:
        """Return what a notebook shows of the report: the same in short, the whole text folded."""
        return as_html(self)

    def _worth_telling(self) -> list[tuple[str, str]]:
        """Return what was not tried, and why: all where nothing worked; where nothing is repaired
        what treats the cause, unless the notes say why; else nothing.
        """
        if self.outcome is Outcome.EXHAUSTED:
            return list(self.refused.items())
        if self.outcome is not Outcome.FINITE or self.diagnosis is None:
            return []
        at_fault = self.diagnosis.at_fault
        return [
            (name, reason)
            for name, reason in self.refused.items()
            if get(name).treats & at_fault and not any(reason in note for note in self.notes)
        ]

    def _treats_the_cause(self, edit: Edit) -> bool:
        at_fault = frozenset() if self.diagnosis is None else self.diagnosis.at_fault
        return bool(get(edit.strategy).treats & at_fault)
