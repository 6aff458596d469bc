"""A run that turned non-finite: rolled back, described, explained."""

import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

import keras

from nanfix.changes.plan import Plan
from nanfix.data.arrays import flat_arrays
from nanfix.data.datasets import batches_of
from nanfix.data.training_data import TrainingData
from nanfix.explain.audit import Audit, audit
from nanfix.explain.causes import evident, out_of_range, reason
from nanfix.explain.counterfactuals import Counterfactuals
from nanfix.explain.description import describe, of_weights
from nanfix.explain.evidence import Evidence
from nanfix.explain.failed_run import FailedRun
from nanfix.explain.growth import Growth, measure_growth
from nanfix.explain.impossible import hopeless_training
from nanfix.explain.microscope import Observation, observe
from nanfix.explain.recorded_batches import recorded_batches
from nanfix.explain.replay import Replay, flat_batch, replay
from nanfix.explain.reruns import try_otherwise
from nanfix.explain.ruining_callback import ruined_at_the_end, ruining_callback
from nanfix.model.quiet import quiet
from nanfix.model.run import current_learning_rate
from nanfix.model.snapshot import Snapshot, nonfinite_variables, restore
from nanfix.private.objects import INITIAL_EPOCH
from nanfix.recorder.callbacks import user_callbacks
from nanfix.recorder.ending import ended
from nanfix.recorder.recording import Recording
from nanfix.recorder.watch import Watched, Watching
from nanfix.recorder.written_files import Written
from nanfix.records.cause import Cause
from nanfix.records.diagnosis import Diagnosis, Finding, Onset
from nanfix.report.report import Outcome, Report

if TYPE_CHECKING:
    import numpy as np

log = logging.getLogger("nanfix")
T = TypeVar("T")

HOLES = 32  # rows with holes that are tried in one step
# What reruns may take: so long, or this share of the failed run. They take a second or two of a
# small model; the limit is for models with slow steps. Were it nearer, a busy machine would find
# another cause than an idle one.
DIAGNOSIS_SECONDS, DIAGNOSIS_SHARE = 20.0, 0.3
NOTHING_KEPT = (
    "The run failed before its state could be kept: a variable of the model was non-finite from "
    "the start, or the model draws its own batches (it overrides make_train_function) and was not "
    "built. Build it anew before training, then call again."
)


class Incident:
    """A run that turned non-finite: rolled back, described, explained."""

    @quiet()
    def __init__(
        self,
        model: keras.Model,
        data: TrainingData,
        watched: Watched,
        watching: Watching,
        seed: int,
    ):
        self.model, self.data, self.watched, self.watching, self.seed = (
            model,
            data,
            watched,
            watching,
            seed,
        )
        self.net, self.missing = watching.net, list[str]()
        self._last_epoch: Snapshot | None = None  # the state at its end, as the replay found it
        self.begun = watched.begun  # the user's callbacks that are in the midst of a training
        self.recording = recording = watched.recorder.recording()
        restore(recording.initial)
        begun_with = of_weights(model)
        restore(recording.newest)
        # Set for good by BackupAndRestore; every training from here on names its own.
        setattr(model, INITIAL_EPOCH, None)
        self.written = Written(user_callbacks(data))
        self.recorded = recorded = recorded_batches(data, recording)
        run, self.sites = describe(model, data, recorded, recording.set_at)
        self.run = replace(run, **begun_with)
        self.validation, self.training_rows = data.validation_part(recorded), data.rows(recorded)
        self.steps_per_epoch = data.training_part().steps_per_epoch(recording.steps_per_epoch)

    @property
    def failed(self) -> FailedRun:
        """What candidates for a repair are judged by."""
        return FailedRun(
            run=self.run,
            data=self.data,
            validation=self.validation,
            training_rows=self.training_rows,
            snapshots=self.recording.snapshots,
            epoch_losses=self.recording.epoch_losses,
            steps=self.watched.recorder.total_steps,
            steps_per_epoch=self.steps_per_epoch,
            seed=self.seed,
            set_at=self.recording.set_at,
        )

    @quiet()
    def diagnose(self, deadline: float = math.inf) -> Diagnosis:
        """Replay the failing steps, look at data and weights, and try the steps
        otherwise, until the `deadline`.

        Evidence that nanfix fails to gather is missing from the diagnosis, which names
        it. The model is left in the state of the newest snapshot. `deadline` is in
        seconds of `time.monotonic`.
        """
        evidence = self.measured()
        usual = max(DIAGNOSIS_SECONDS, DIAGNOSIS_SHARE * self.watched.seconds)
        seconds = min(usual, max(deadline - time.monotonic(), 0.0))
        tried = self._gathered(
            "the steps run otherwise",
            lambda: self.tried_otherwise(evidence, seconds),
            Counterfactuals(),
        )
        return self.reasoned(self.detected, replace(evidence, tried=tried))

    @property
    def detected(self) -> Onset:
        """The step at which the training was left."""
        assert self.watched.incident is not None
        return self.watched.incident.detected

    def measured(self) -> Evidence:
        """Return what the failing steps, the data and the weights show."""
        evidence = self.look(Plan(), self.recording, self.detected)
        self._last_epoch = evidence.seen.last_epoch
        seen, looked = evidence.seen, evidence.audit
        refused = self.watched.incident.refused if self.watched.incident is not None else ""
        if refused:  # the step is not among those that were recorded
            seen = replace(seen, onset=self.detected, failing=Observation(error=refused))
        if (
            self.data.is_arrays
            and looked.rows
            and seen.failing is not None
            and not seen.failing.tainted_input
        ):
            ahead = self._gathered(
                "rows that training has not reached",
                lambda: self._fails_of_holes(looked.rows[:HOLES]),
                False,
            )
            looked = replace(looked, holes_ahead=ahead)
        ruined_by = None
        if seen.onset is None:
            ruined_by = self._gathered("what callbacks set", self._ruining_callback, None)
        return replace(evidence, seen=seen, audit=looked, ruined_by=ruined_by)

    def look(self, plan: Plan, recording: Recording, detected: Onset) -> Evidence:
        """Replay a recording of this model trained with `plan`; return what it, the
        data and the weights show.
        """
        self.missing = []
        seen = self._gathered(
            "the failing steps", lambda: replay(self.model, recording, detected), Replay(detected)
        )
        rate = self._gathered("the learning rate", lambda: current_learning_rate(self.model), None)
        growth = self._gathered(
            "the growth of the weights",
            lambda: measure_growth(self.run, plan, recording, seen, rate),
            Growth((), None, 0.0, learning_rate=rate, first_learning_rate=rate),
        )
        looked = self._gathered("the data", lambda: self._audited(seen), Audit())
        return Evidence(self.run, seen, looked, growth)

    def reasoned(self, detected: Onset, evidence: Evidence) -> Diagnosis:
        """Return what the evidence comes to, and which evidence is missing."""
        unknown = Diagnosis(
            detected, (Finding(Cause.UNKNOWN, 0.1, "the evidence could not be weighed"),)
        )
        diagnosis = self._gathered("the ranking", lambda: reason(evidence, detected), unknown)
        return replace(diagnosis, missing=tuple(self.missing))

    def _gathered(self, what: str, gather: Callable[[], T], otherwise: T) -> T:
        """Return what `gather` returns; where nanfix fails to gather it, note that it
        is missing and go on without.
        """
        faults = len(self.net.faults)
        found = self.net.attempt(f"measuring {what}", gather, otherwise)
        if len(self.net.faults) > faults:
            self.missing.append(what)
            restore(self.recording.newest)
        return found

    def _audited(self, seen: Replay) -> Audit:
        inputs, targets, weights, whole = self._looked_at(seen)
        reached = seen.failing is None or seen.failing.tainted_input
        sampled = flat_arrays(self.training_rows.sample_weight)
        looked = audit(self.run, inputs, targets, weights, sampled, whole=whole, reached=reached)
        fails_of_data = looked.batch_inputs_nonfinite or looked.batch_targets_nonfinite
        if looked.hopeless or fails_of_data or seen.failing is None:
            return looked
        return replace(looked, hopeless=hopeless_training(self.run, seen.failing))

    def tried_otherwise(self, evidence: Evidence, seconds: float) -> Counterfactuals:
        """Return what the failing steps come to with one thing changed, in at most so
        many `seconds`.
        """
        growth = evidence.growth
        return try_otherwise(
            self.model,
            self.data,
            self.run,
            self.recording,
            evidence.seen,
            evidence.audit,
            wide=bool(growth.wide) or growth.loudest is not None,
            seconds=seconds,
            evident=lambda tried: evident(replace(evidence, tried=tried)),
            out_of_range=out_of_range(evidence),
        )

    def unrepaired(
        self, outcome: Outcome, diagnosis: Diagnosis, notes: tuple[str, ...] = ()
    ) -> Report:
        """Leave the model in its last good state, and report that."""
        if outcome is not Outcome.INTERRUPTED:  # a later call may go on with what was being trained
            self.written.put_back()
        watched, state = replace(self.watched, begun=self.begun), self._last_epoch
        state = state if state is not None and self.recording.is_good(state) else None
        return unrepaired(
            self.model,
            self.data,
            watched,
            outcome,
            diagnosis=diagnosis,
            notes=notes,
            state=state,
        )

    def _looked_at(
        self, seen: Replay
    ) -> "tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray], bool]":
        """Return the arrays to audit: all the user passed, or the failing batch; and
        which of the two.
        """
        part = self.data.training_part()
        if part.is_arrays:
            return flat_arrays(part.x), flat_arrays(part.y), flat_arrays(part.sample_weight), True
        if seen.batch is None:
            return [], [], [], False
        inputs, targets, weights = flat_batch(seen.batch)
        # Keras takes sample weights or weights of classes, and makes the former of the latter.
        return inputs, targets, [] if self.run.class_weight else weights, False

    def _ruining_callback(self) -> str | None:
        assert self.watched.incident is not None
        if self.watched.incident.ended:
            return ruined_at_the_end(self.data)
        seconds = max(DIAGNOSIS_SECONDS, self.watched.seconds)
        return ruining_callback(
            self.model,
            self.data,
            self.recording,
            self.begun,
            self.watching,
            failed=self.detected.epoch,
            seconds=seconds,
        )

    def _fails_of_holes(self, rows: tuple[int, ...]) -> bool:
        """Say whether a step on these rows, from the initial weights, turns non-finite
        because of what is in them.
        """
        (batch,) = batches_of(self.data.training_part(), rows, len(rows))
        restore(self.recording.initial)
        step = observe(self.model, batch)
        ruined = (
            step.loss is None
            or not math.isfinite(step.loss)
            or bool(nonfinite_variables(self.model))
        )
        restore(self.recording.newest)
        return step.tainted_input and ruined


@contextmanager
def rolled_back(recording: Recording) -> Iterator[None]:
    """Put the model into its last good state when the user's own code ends what is done inside."""
    try:
        yield
    except BaseException:
        restore(recording.good)
        raise


def unrepaired(
    model: keras.Model,
    data: TrainingData,
    watched: Watched,
    outcome: Outcome,
    *,
    diagnosis: Diagnosis | None = None,
    notes: tuple[str, ...] = (),
    state: Snapshot | None = None,
) -> Report:
    """Put the model into its last good state, or into `state`, end the training as Keras would
    have, and report it.

    An interrupted training is not ended, as Keras does not end it either.
    """
    recording, history, epoch = watched.recorder.recording(), dict(watched.history), watched.epoch
    kept = state or (recording.good if recording.snapshots else None)
    if kept is not None:
        restore(kept)
    say(data, outcome.value)
    if outcome is not Outcome.INTERRUPTED:
        history, epoch = ended(model, data, watched)
        # A callback that has ruined the weights of the run ruins these, too.
        if kept is not None and nonfinite_variables(model):
            restore(kept)
    return Report(
        outcome=outcome,
        model=model,
        history=history,
        epoch=epoch,
        params=dict(watched.params),
        diagnosis=diagnosis,
        notes=(*watched.notes, *notes),
        recorder=watched.recorder.usage(),
    )


def shows(data: TrainingData) -> bool:
    """Say whether the user wants to see anything: they did not ask Keras to be quiet."""
    return (data.arguments or {}).get("verbose", "auto") != 0


def say(data: TrainingData, text: str) -> None:
    """Tell the user, unless they asked Keras to be quiet."""
    log.log(logging.WARNING if shows(data) else logging.INFO, text)
