"""What a repair would try, without trying it: the diagnosis, and the candidates of the
search in their order.
"""

import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nanfix.api.preconditions import check_model
from nanfix.data.training_data import TrainingData
from nanfix.explain.incident import NOTHING_KEPT, Incident, rolled_back
from nanfix.model.faults import Net
from nanfix.model.quiet import quiet
from nanfix.model.randomness import preserved_randomness
from nanfix.model.snapshot import restore
from nanfix.recorder.watch import Watched, Watching, watch
from nanfix.records.budget import Budget
from nanfix.records.diagnosis import Diagnosis
from nanfix.records.errors import NanfixError
from nanfix.remedies.fix import Fix
from nanfix.remedies.registry import select
from nanfix.remedies.strategy import Strategy
from nanfix.report.trial import TrialRecord
from nanfix.search.search import search
from nanfix.search.space import build_space
from nanfix.search.validation_repair import ValidationIncident

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class Plan:
    """What a repair would try: the fixes in order, as far as none of them holds and the
    budget lasts.
    """

    diagnosis: Diagnosis | None = None
    fixes: tuple[Fix, ...] = ()

    def __str__(self):
        if self.diagnosis is None:
            return "Training stayed finite; nothing would be tried."
        if not self.fixes:
            return f"{self.diagnosis}\nNothing would be tried."
        numbered = [
            f"  {n}. {' '.join(str(fix).splitlines())}" for n, fix in enumerate(self.fixes, 1)
        ]
        return "\n".join(
            [
                str(self.diagnosis),
                "Would be tried, in this order, until one works and learns:",
                *numbered,
            ]
        )


@quiet()
def train_and_plan(
    model: "keras.Model",
    x: Any = None,
    y: Any = None,
    *,
    budget: Budget | None = None,
    strategies: Iterable[str] | None = None,
    forbid: Iterable[str] = (),
    repair_divergence: bool = False,
    **fit_kwargs: Any,
) -> tuple[Watched, Plan]:
    """Train as `model.fit` does and, when that goes non-finite, say what `nanfix.fit` would try; no
    candidate is trained.

    A training that stays finite is kept; one that fails leaves the model in its last
    verified finite state.

    Args:
        budget, strategies, forbid, repair_divergence: as `nanfix.fit` takes them.

    Raises:
        InputError: as `nanfix.fit` does.
        NanfixError: the run failed before a state to go back to could be kept.
        UnknownStrategyError: `strategies` or `forbid` names one that is not installed.
    """
    check_model(model)
    chosen = select(strategies, forbid)
    data = TrainingData.of(x, y, fit_kwargs)
    watched, net = watch(model, data, Watching(stop_diverged=repair_divergence)), Net()
    with net.raising("planning a repair"), preserved_randomness():
        if watched.incident is None:
            validation = ValidationIncident.of(model, data, watched)
            if validation is None:
                return watched, Plan()
            space = build_space(chosen, validation.diagnosis, validation.run, net=net)
            return watched, Plan(validation.diagnosis, tuple(validation.fixes(space)))
        recording = watched.recorder.recording()
        if not recording.snapshots:
            raise NanfixError(NOTHING_KEPT)
        with rolled_back(recording):
            return watched, _planned(
                Incident(model, data, watched, Watching(net=net), seed=0),
                chosen,
                budget or Budget(),
            )


def _planned(run: Incident, strategies: dict[str, Strategy], budget: Budget) -> Plan:
    """Return the diagnosis of a run and the fixes that a search would try; the model is
    left in its last good state.
    """
    diagnosis = run.diagnose()
    space = None if diagnosis.hopeless else build_space(strategies, diagnosis, run.run, net=run.net)
    fixes: tuple[Fix, ...] = ()
    if space is not None and space.families:
        with tempfile.TemporaryDirectory(prefix="nanfix-") as folder:
            found = search(space, _untried, budget=budget, seed=0, directory=Path(folder))
        fixes = tuple(Fix(trial.edits) for trial in found.trials)
    restore(run.recording.good)
    return Plan(diagnosis, fixes)


def _untried(fix: Fix) -> TrialRecord:
    """Answer the search as if the fix had not held, so that it goes on to the next."""
    return TrialRecord(fix.edits, "", 0, None, "not tried", 0.0)
