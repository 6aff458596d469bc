"""A run that turned non-finite: rolled back, described, explained."""

import logging
import math
from dataclasses import replace
from typing import Any

from nanfix.arrays import flat_arrays
from nanfix.audit import Audit, audit
from nanfix.counterfactual import Counterfactuals, try_otherwise
from nanfix.data import TrainingData
from nanfix.describing import describe, recorded_batches
from nanfix.diagnosis import Diagnosis, Onset
from nanfix.feeding import batches_of
from nanfix.judging import FailedRun
from nanfix.quiet import quiet
from nanfix.reasoning import Growth, measure_growth, reason
from nanfix.recording import Recording
from nanfix.replay import Replay, flat_batch, observe, replay
from nanfix.report import Outcome, Report
from nanfix.resumption import user_callbacks
from nanfix.setup import Setup, current_learning_rate
from nanfix.snapshot import nonfinite_variables, restore
from nanfix.watch import Watched, Watching
from nanfix.written import Written

log = logging.getLogger("nanfix")

HOLES = 32  # rows with holes that are tried in one step
DIAGNOSIS_SECONDS, DIAGNOSIS_SHARE = 2.0, 0.3  # what reruns may take: so long, or this share of the failed run
NOTHING_KEPT = (
    "The run failed before its state could be kept: a variable of the model was non-finite from the start, or the model draws "
    "its own batches (it overrides make_train_function) and was not built. Build it anew before training, then call again."
)


class Incident:
    """A run that turned non-finite: rolled back, described, explained."""

    @quiet()
    def __init__(self, model: Any, data: TrainingData, watched: Watched, watching: Watching, seed: int):
        self.model, self.data, self.watched, self.watching, self.seed = model, data, watched, watching, seed
        self.recording = recording = watched.recorder.recording()
        restore(recording.newest)
        model._initial_epoch = None  # set for good by BackupAndRestore; every training from here on names its own
        self.written = Written(user_callbacks(data))
        recorded = recorded_batches(data, recording)
        self.setup, self.sites = describe(model, data, recorded)
        self.held, self.sampled = data.held(recorded), data.rows(recorded)
        self.steps_per_epoch = data.training_part().steps_per_epoch(recording.steps_per_epoch)

    @property
    def failed(self) -> FailedRun:
        """What candidates for a repair are judged by."""
        recording, steps = self.recording, self.watched.recorder.total_steps
        known = recording.snapshots, recording.epoch_losses, steps, self.steps_per_epoch, self.seed
        return FailedRun(self.setup, self.data, self.held, self.sampled, *known)

    @quiet()
    def diagnose(self) -> Diagnosis:
        """Replay the failing steps, look at data and weights, and try the steps otherwise."""
        incident = self.watched.incident
        assert incident is not None
        seen, looked, growth = self.measured()
        return reason(seen, looked, growth, self.setup, incident.detected, self.tried_otherwise(seen, looked, growth))

    def measured(self) -> tuple[Replay, Audit, Growth]:
        """Return what the failing steps, the data and the weights show."""
        incident = self.watched.incident
        assert incident is not None
        seen, looked, growth = self.look(self.setup, self.recording, incident.detected)
        whole = self.data.is_arrays
        if whole and looked.rows and seen.failing is not None and not seen.failing.tainted_input:
            looked = replace(looked, holes_ahead=self._fails_of_holes(looked.rows[:HOLES]))
        return seen, looked, growth

    def look(self, setup: Setup, recording: Recording, detected: Onset) -> tuple[Replay, Audit, Growth]:
        """Replay a recording of this model trained with `setup`; return what it, the data and the weights show."""
        seen = replay(self.model, recording, detected)
        growth = measure_growth(setup, recording, seen, current_learning_rate(self.model))
        inputs, targets, weights, whole = self._looked_at(seen)
        return seen, audit(setup, inputs, targets, weights, whole=whole), growth

    def tried_otherwise(self, seen: Replay, looked: Audit, growth: Growth, seconds: float | None = None) -> Counterfactuals:
        """Return what the failing steps come to with one thing changed, in `seconds` or what a diagnosis may take."""
        if seconds is None:
            seconds = max(DIAGNOSIS_SECONDS, DIAGNOSIS_SHARE * self.watched.seconds)
        situation = self.model, self.data, self.setup, self.recording
        return try_otherwise(*situation, seen, looked, wide=bool(growth.wide), seconds=seconds)

    def unrepaired(self, outcome: Outcome, diagnosis: Diagnosis, notes: tuple[str, ...] = (), **searched: Any) -> Report:
        """Leave the model in its last verified state, and report what was `searched` in vain."""
        restore(self.recording.newest)
        if outcome is not Outcome.INTERRUPTED:  # a later call may go on with what was being trained
            self.written.put_back()
        history, epoch = dict(self.watched.history), self.watched.epoch
        notes = (*self.watched.notes, *notes)
        usage = self.watched.recorder.usage()
        told = {"notes": notes, "recorder": usage, **searched}
        report = Report(outcome, self.model, history, epoch, dict(self.watched.params), diagnosis, **told)
        say(self.data, outcome.value)
        return report

    def _looked_at(self, seen: Replay) -> tuple[list[Any], list[Any], list[Any], bool]:
        """Return the arrays to audit: all the user passed, or the failing batch; and which of the two."""
        part = self.data.training_part()
        if part.is_arrays:
            return flat_arrays(part.x), flat_arrays(part.y), flat_arrays(part.sample_weight), True
        return (*flat_batch(seen.batch), False) if seen.batch is not None else ([], [], [], False)

    def _fails_of_holes(self, rows: tuple[int, ...]) -> bool:
        """Say whether a step on these rows, from the initial weights, turns non-finite because of what is in them."""
        (batch,) = batches_of(self.data.training_part(), rows, len(rows))
        restore(self.recording.initial)
        step = observe(self.model, batch)
        ruined = step.loss is None or not math.isfinite(step.loss) or bool(nonfinite_variables(self.model))
        restore(self.recording.newest)
        return step.tainted_input and ruined


def shows(data: TrainingData) -> bool:
    """Say whether the user wants to see anything: they did not ask Keras to be quiet."""
    return (data.arguments or {}).get("verbose", "auto") != 0


def say(data: TrainingData, text: str) -> None:
    """Tell the user, unless they asked Keras to be quiet."""
    log.log(logging.WARNING if shows(data) else logging.INFO, text)
