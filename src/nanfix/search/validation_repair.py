"""A training that is fine, and a validation loss that is not finite."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from nanfix.data.arrays import flat_arrays
from nanfix.data.training_data import TrainingData
from nanfix.explain.audit import audit
from nanfix.explain.causes import validation_only
from nanfix.explain.description import describe, recorded_batches
from nanfix.install.folding import Sites
from nanfix.install.workbench import Workbench
from nanfix.model.quiet import quiet
from nanfix.model.run import Run
from nanfix.model.snapshot import restore, take
from nanfix.recorder.watch import Watched
from nanfix.records.diagnosis import Diagnosis
from nanfix.records.errors import CannotHandBack
from nanfix.remedies.fix import Fix
from nanfix.remedies.strategy import Strategy
from nanfix.search.space import build_space

AGAIN = (
    "The validation figures of the last epoch were measured again, with the repaired model; those "
    "of the epochs before it are as they were, since their weights are gone."
)


@dataclass(frozen=True)
class Revalidated:
    """What made the validation finite, what was done, and what loss and metrics are now."""

    fix: Fix
    notes: tuple[str, ...]
    figures: Mapping[str, float]

    def history(self, before: Mapping[str, list[float]]) -> dict[str, list[float]]:
        """Return the history with the validation figures of the last epoch as they are now."""
        epochs = len(before.get("loss", ()))
        return {
            name: [*values[:-1], self.figures.get(name.removeprefix("val_"), values[-1])]
            if name.startswith("val_") and len(values) == epochs
            else values
            for name, values in before.items()
        }


@dataclass(frozen=True)
class ValidationIncident:
    """A finished training whose validation loss was not finite, and why."""

    model: Any
    data: TrainingData
    held: TrainingData
    run: Run
    sites: Sites
    diagnosis: Diagnosis

    @classmethod
    @quiet()
    def of(cls, model: Any, data: TrainingData, watched: Watched) -> "ValidationIncident | None":
        """Return the incident of a training that has ended, or None when its validation
        stayed finite.
        """
        onset = watched.recorder.validation_onset
        if onset is None:
            return None
        recorded = recorded_batches(data, watched.recorder.recording())
        held = data.held(recorded)
        run, sites = describe(model, data, recorded)
        inputs, targets = (flat_arrays(held.x), flat_arrays(held.y)) if held.is_arrays else ([], [])
        return cls(
            model,
            data,
            held,
            run,
            sites,
            validation_only(audit(run, inputs, targets, [], whole=True), onset),
        )

    @quiet()
    def repair(self, strategies: dict[str, Strategy], seed: int) -> Revalidated | None:
        """Make the first change to the data that gives a finite validation loss part of
        the model; its training stays.

        Returns:
            What came of it, or None when none holds, or what is drawn to try one would
            be lost to the user.
        """
        state = take(self.model)
        if state is None or isinstance(self.held.x, Iterator):
            return None
        fixes = build_space(strategies, self.diagnosis, self.run).data_fixes()
        bench = Workbench(self.run, self.data, self.held, self.sites)
        bench.open()
        try:
            for fix in (*(Fix((edit,)) for whole in fixes for edit in whole.edits), *fixes):
                plan = fix.plan(self.run)
                bench.prepare(plan, state, seed)
                figures = bench.figures_on(self.held)
                restore(state)
                if math.isfinite(figures["loss"]):
                    try:
                        return Revalidated(fix, (*bench.hand_back(plan), AGAIN), figures)
                    except CannotHandBack:
                        continue
        finally:
            bench.close()
        return None
