"""Runs steps of Keras again from a snapshot, with one thing changed."""

import math
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf

from nanfix.explain._interventions import Intervention, together
from nanfix.explain.counterfactuals import Rerun
from nanfix.explain.microscope import Observation, observe
from nanfix.model.faults import is_raised_by_nanfix
from nanfix.model.logged_losses import loss_of
from nanfix.model.optimizers import rate_variables, trained_optimizers
from nanfix.model.schedules import ScaledSchedule
from nanfix.model.snapshot import Snapshot, nonfinite_variables, restore
from nanfix.model.training_step import Batch, RecordingStep
from nanfix.model.undo import put
from nanfix.private.objects import LEARNING_RATE, learning_rate_of
from nanfix.recorder.recording import RecordedStep, Recording, Settings

LOSS_STEPS = 5  # last steps whose mean loss is compared: one alone depends on its batch


class Refused(Exception):
    """The user's step does not take what has been changed, as it may not take integers for floats:
    so nothing is known of that change.
    """


@dataclass(frozen=True)
class Course:
    """Steps to run one after another, from the state of a snapshot."""

    start: Snapshot
    steps: list[RecordedStep]


class Rerunner:
    """Runs steps of Keras from a snapshot, with the compiled step of the recording or
    one traced anew.

    Args:
        deadline: in seconds of `time.perf_counter`; no step begins after it.
    """

    def __init__(self, model: keras.Model, recording: Recording, deadline: float):
        self.model, self.recording = model, recording
        self._step, self._deadline = recording.step_of_keras, deadline
        self._optimizers = trained_optimizers(model)
        self._base = Intervention()
        # Schedules are built into the graph; they are multiplied by this variable.
        self._schedule_factor = keras.Variable(1.0, trainable=False, dtype="float32", name="share")

    @property
    def has_time(self) -> bool:
        return time.perf_counter() < self._deadline

    def rerun(self, change: str, course: Course, *, rate: float = 1.0) -> Rerun | None:
        """Run the steps of a course and say what came of it; None when there is no time left or the
        step does not take the change.

        Args:
            change: what is changed, in words.
            rate: multiplies every learning rate.
        """
        if not self.has_time:
            return None
        try:
            return self._rerun(change, course, rate)
        except Refused:
            return None

    def rerun_with(
        self, change: Intervention, course: Course, *, rate: float = 1.0
    ) -> Rerun | None:
        """Do that on top of a change; nothing is traced for it when there is no time left."""
        if not self.has_time:
            return None
        with self.on_top_of(change):
            return self.rerun(change.words, course, rate=rate)

    def _rerun(self, change: str, course: Course, rate: float) -> Rerun | None:
        def loss_at(step: RecordedStep) -> float:
            return self.loss_of(self._base.batch(step.batch))

        steps = course.steps
        self._begin(course.start, rate)
        losses: list[float] = []
        for step in steps:
            if not self.has_time:
                return None
            self._set(step, rate)
            loss = loss_at(step)
            if self.recording.failed(loss):
                return Rerun(change, len(losses), len(steps))
            losses.append(loss)
        if nonfinite_variables(self.model):
            return Rerun(change, len(losses) - 1, len(steps))
        before = []
        for step in steps[-LOSS_STEPS:]:
            self._begin(course.start, rate)
            before.append(loss_at(step))
        return Rerun(
            change,
            len(losses),
            len(steps),
            before=float(np.mean(before)),
            after=float(np.mean(losses[-LOSS_STEPS:])),
            rate=rate,
        )

    def _begin(self, start: Snapshot, rate: float) -> None:
        restore(start)
        if self._base.of_state is not None:
            self._base.of_state()
        self._schedule_factor.assign(rate)
        if rate != 1.0:
            for variable in rate_variables(self._optimizers):
                variable.assign(np.asarray(variable) * rate)

    def _set(self, step: RecordedStep, rate: float) -> None:
        """Set what callbacks had set for this step, `rate` times each learning rate."""
        scaled = {id(variable) for variable in rate_variables(self._optimizers)}
        for variable, value in step.settings:
            is_rate = id(variable) in scaled
            variable.assign(self._base.rate(value) * rate if is_rate else value)

    def loss_of(self, batch: Batch) -> float:
        """Run one step and return its own loss, NaN when its numbers are what TensorFlow refuses.

        Raises:
            Refused: it cannot be run with what has been changed.
        """
        assert self._step is not None
        self.model.reset_metrics()
        try:
            logs = self._step.replay(batch)
        except tf.errors.InvalidArgumentError:
            return math.nan
        except Exception as error:
            if is_raised_by_nanfix(error):
                raise
            raise Refused from error
        loss = loss_of(logs)
        return 0.0 if loss is None else loss

    def failure(self, course: Course, done: int, rate: float = 1.0) -> Observation:
        """Run so many steps of a course and look at the next one closely, or at the first of them
        that has left a variable non-finite.
        """
        self._begin(course.start, rate)
        for index, step in enumerate(course.steps[:done]):
            self._set(step, rate)
            self.loss_of(self._base.batch(step.batch))
            if nonfinite_variables(self.model):
                return self.failure(course, index, rate)
        self._set(course.steps[done], rate)
        return observe(self.model, self._base.batch(course.steps[done].whole_batch))

    @contextmanager
    def on_top_of(self, change: Intervention) -> Iterator[None]:
        """Let every rerun have this change, too."""
        kept, self._base = self._base, together([self._base, change])
        try:
            with ExitStack() as during:
                if change.during is not None:
                    change.during(during)
                    during.enter_context(self.traced_anew())
                yield
        finally:
            self._base = kept

    def stays_finite(self, start: Snapshot, batch: Batch, settings: Settings = ()) -> bool | None:
        """Say whether a step from a state, with these `settings` of callbacks, stays finite; None
        where it does not take the batch.
        """
        restore(start)
        for variable, value in settings:
            variable.assign(value)
        try:
            failed = self.recording.failed(self.loss_of(batch))
        except Refused:
            return None
        return not failed and not nonfinite_variables(self.model)

    @contextmanager
    def with_scalable_rates(self) -> Iterator[None]:
        """Let a rerun multiply the rates of schedules, which are built into the graph,
        as others.
        """
        scheduled = [
            optimizer
            for optimizer in self._optimizers
            if not isinstance(learning_rate_of(optimizer), keras.Variable)
        ]
        with ExitStack() as during:
            for optimizer in scheduled:
                schedule = ScaledSchedule(learning_rate_of(optimizer), self._schedule_factor)
                put(during, optimizer, LEARNING_RATE, schedule)
            if scheduled:
                during.enter_context(self.traced_anew())
            yield

    @contextmanager
    def traced_anew(self) -> Iterator[None]:
        """Trace a step of its own for what is built into the graph."""
        kept, self._step = self._step, RecordingStep(self.model)
        try:
            yield
        finally:
            self._step = kept
