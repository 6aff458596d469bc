"""Replays a recording one step at a time to find the exact onset, and has the failing
step looked at: again and again, where it does not show what failed.
"""

import itertools
import math
import time
from dataclasses import dataclass, replace

import keras
import numpy as np
import tensorflow as tf

from nanfix.data.arrays import flat_arrays, rows_in, unpacked
from nanfix.explain.microscope import Observation, observe
from nanfix.model.logged_losses import loss_of
from nanfix.model.randomness import preserved_randomness
from nanfix.model.run import current_learning_rate
from nanfix.model.snapshot import Snapshot, restore, take
from nanfix.model.training_step import Batch, RecordingStep, whole
from nanfix.private.objects import loss_tracker
from nanfix.recorder.recording import RecordedStep, Recording
from nanfix.records.diagnosis import Onset, Phase, Place
from nanfix.records.unsafe_operations import UNSAFE_OPERATIONS

# A loss beyond this overflows float32 (3.4e38) when an epoch's losses are summed, each as often as
# it has rows: 3e8 of them.
OVERFLOWING_LOSS = 1e30
# Times: so often the recorded steps are replayed until they fail, and a failing step is run again
# and looked at again. What fails in one of two is missed by one look in two, by five in one of 32.
REPLAYS, REPEATS = 3, 5
REPLAY_SECONDS = 10.0  # after which no other replay begins
# So long steps are looked at that draw numbers of their own, which may let one in a hundred fail.
LOOK_SECONDS = 15.0
DRAWN = 1e-6  # share by which the weights differ in the end where other numbers were drawn


@dataclass(frozen=True)
class Replay:
    """What replaying a recording showed.

    `onset` is None when all `replays` stayed finite. `again` says, of a failing step in which no
    operation left its domain, how often it failed when it was run again, and how often it was run.
    A training that `strays` took another course than the recorded one: its loss is not finite where
    that was finite. `last_epoch` is the state at the end of the last whole epoch before the failing
    step, or of all where none fails, where that came after the newest snapshot.
    """

    onset: Onset | None
    before: Snapshot | None = None  # the state just before the failing step
    batch: Batch = None
    failing: Observation | None = None
    first: Observation | None = None  # the first batch from the initial weights
    gradient_norm: float | None = None  # of the last finite step
    loss_trend: tuple[float, ...] = ()
    replays: int = 1
    again: tuple[int, int] | None = None
    learning_rate: float | None = None  # of the failing step
    earlier_learning_rate: float | None = None  # of the step before
    first_learning_rate: float | None = None
    strays: bool = False
    last_epoch: Snapshot | None = None

    @property
    def elsewhere(self) -> str:
        """Say which step failed, where it is none of those that were trained; else nothing."""
        return (
            f"run again, the training took another course and failed at {self.onset}, which is "
            "what is said here (random numbers that are not of keras.random cannot be set back)"
            if self.strays
            else ""
        )

    @property
    def is_transient(self) -> bool:
        """Whether the same step from the same state is finite in one run and not in another, for no
        reason that a look at it shows.
        """
        failed, tried = self.again or (0, 0)
        reason = self.failing is not None and self.failing.operation in UNSAFE_OPERATIONS
        return self.onset is None or (failed < tried and not reason)


def replay(model: keras.Model, recording: Recording, detected: Onset) -> Replay:
    """Run the recorded batches until the state or the loss is non-finite, or the training has
    diverged; look closely at that step.

    The model is left in the state of the newest snapshot, its random state as it was.
    """
    step_of_keras = recording.step_of_keras
    if not recording.steps or step_of_keras is None:
        return Replay(detected)
    begun, replays = time.perf_counter(), 0
    with preserved_randomness():
        seen, ends = Replay(None), list[float]()
        while seen.onset is None and replays < REPLAYS:
            if replays and time.perf_counter() > begun + REPLAY_SECONDS:
                break
            seen, replays = _replayed(model, recording, step_of_keras, detected), replays + 1
            if seen.onset is None:
                ends.append(sum(float(np.abs(v).sum()) for v in model.trainable_variables))
        if seen.onset is None and abs(ends[-1] - ends[0]) > DRAWN * ends[0]:
            seen = _looked_for(model, recording) or seen
        restore(recording.newest)
    return replace(seen, replays=replays)


def _replayed(
    model: keras.Model, recording: Recording, step_of_keras: RecordingStep, detected: Onset
) -> Replay:
    """Run the recorded batches once; see `replay`."""
    restore(recording.newest)
    earlier = before = recording.newest
    losses: list[float] = []
    last_epoch: Snapshot | None = None
    # The loss that was seen is that of the last execution, which may be of several steps.
    looked_at = len(recording.steps) - step_of_keras.steps
    for index, step in enumerate(recording.steps):
        if index and step.at.epoch > recording.steps[index - 1].at.epoch:
            reached = recording.newest.total + index
            last_epoch = replace(before, epoch=step.at.epoch - 1, step=0, total=reached)
        loss, after = _run_from(None, model, step_of_keras, step)
        losses.append(loss)
        if after is None or recording.failed(loss):
            failing, again = (
                _looked_at(before, model, step_of_keras, step)
                if after is None
                else (_diverged(_observed_from(before, model, step), losses), None)
            )
            previous = recording.steps[max(index - 1, 0)]
            failed = _failed(model, recording, (earlier, previous), (before, step), failing)
            return replace(
                failed,
                loss_trend=tuple(losses),
                again=again,
                strays=index < looked_at and not math.isfinite(loss),
                last_epoch=last_epoch,
            )
        earlier, before = before, after
    largest = max(map(abs, losses))
    if largest > OVERFLOWING_LOSS:
        # Every step is finite, but not the sum from which Keras takes the mean of the epoch.
        return Replay(
            detected,
            before=earlier,
            batch=recording.steps[-1].whole_batch,
            failing=Observation(magnitude=largest),
            loss_trend=tuple(losses),
        )
    at, reached = recording.steps[-1].at, recording.newest.total + len(recording.steps)
    if at.step == recording.steps_per_epoch:
        last_epoch = replace(before, epoch=at.epoch, step=0, total=reached)
    return Replay(None, loss_trend=tuple(losses), last_epoch=last_epoch)


def _failed(
    model: keras.Model,
    recording: Recording,
    earlier: tuple[Snapshot, RecordedStep],
    last: tuple[Snapshot, RecordedStep],
    failing: Observation,
) -> Replay:
    """Return what a failing step shows, of the state and the batch that it had, and of those of the
    step before it.
    """
    before, step = last
    norm = _observed_from(earlier[0], model, earlier[1]).gradient_norm
    rate, earlier_rate = _rate_of(before, model, step), _rate_of(earlier[0], model, earlier[1])
    restore(recording.initial)
    first_rate = current_learning_rate(model)
    first = observe(model, recording.first_batch)
    return Replay(
        step.at,
        before=before,
        batch=step.whole_batch,
        failing=failing,
        first=first,
        gradient_norm=norm or first.gradient_norm,
        learning_rate=rate,
        earlier_learning_rate=earlier_rate,
        first_learning_rate=first_rate,
    )


def _looked_for(model: keras.Model, recording: Recording) -> Replay | None:
    """Go on from the newest snapshot with steps that draw numbers of their own, and look at each
    until one leaves the domain of an operation; None where none does in time.
    """
    restore(recording.newest)
    ends, earlier = time.perf_counter() + LOOK_SECONDS, (recording.newest, recording.steps[0])
    for step in itertools.cycle(recording.steps):
        if time.perf_counter() > ends:
            return None
        before = take(model)
        if before is None:  # it has failed of something else
            restore(earlier[0])
            continue
        _set(step)
        failing = observe(model, step.whole_batch)
        if failing.operation in UNSAFE_OPERATIONS:
            found = _failed(model, recording, earlier, (before, step), failing)
            return replace(found, strays=True)
        earlier = (before, step)
    return None


def _diverged(failing: Observation, losses: list[float]) -> Observation:
    """Return what is to be seen of a step that is finite, whose loss has risen too far."""
    words = f"the loss rose from {losses[0]:.3g} to {losses[-1]:.3g}" if len(losses) > 1 else None
    return replace(
        failing, place=Place(Phase.DIVERGENCE, values=words), phase=Phase.DIVERGENCE, operation=None
    )


def _looked_at(
    before: Snapshot, model: keras.Model, step_of_keras: RecordingStep, step: RecordedStep
) -> tuple[Observation, tuple[int, int] | None]:
    """Look closely at a failing step. Where that shows no operation that has a domain, run it again
    some times. Where it does not fail each time and nothing was seen, look again.

    Returns:
        What was seen, and of the runs how many failed and how many there were.
    """
    failing = _observed_from(before, model, step)
    if failing.operation in UNSAFE_OPERATIONS or failing.error:
        return failing, None
    failed = sum(_run_from(before, model, step_of_keras, step)[1] is None for _ in range(REPEATS))
    looks = REPEATS if failed < REPEATS else 0
    while failing.operation is None and looks:
        failing, looks = _observed_from(before, model, step), looks - 1
    return failing, (failed, REPEATS)


def _observed_from(state: Snapshot, model: keras.Model, step: RecordedStep) -> Observation:
    restore(state)
    _set(step)
    return observe(model, step.whole_batch)


def _rate_of(state: Snapshot, model: keras.Model, step: RecordedStep) -> float | None:
    restore(state)
    _set(step)
    return current_learning_rate(model)


def _set(step: RecordedStep) -> None:
    """Set what callbacks had set for this step."""
    for variable, value in step.settings:
        variable.assign(value)


def _run_from(
    state: Snapshot | None, model: keras.Model, step_of_keras: RecordingStep, step: RecordedStep
) -> tuple[float, Snapshot | None]:
    """Run a step, from a state or from where the model is; return its own loss and the state after
    it, None where one of the two is not finite.
    """
    if state is not None:
        restore(state)
    _set(step)
    model.reset_metrics()  # so that the loss is this step's alone
    loss, error = _run(model, step_of_keras, step.batch)
    return loss, None if error or not math.isfinite(loss) else take(model)


def _run(model: keras.Model, step: RecordingStep, batch: Batch) -> tuple[float, str | None]:
    try:
        logs = step.replay(batch)
    except tf.errors.InvalidArgumentError as refused:
        return math.nan, str(refused)
    loss = loss_of(logs)
    tracker = loss_tracker(model)
    if loss == 0 and tracker is not None and rows_in(whole(batch)) == 0:
        loss = float(np.asarray(tracker.total))  # over no rows Keras shows a mean of 0
    return (0.0 if loss is None else loss), None


def flat_batch(batch: Batch) -> tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray]]:
    """Return the flattened inputs, targets and sample weights of a batch as numpy arrays."""
    x, y, weight = (flat_arrays(part) for part in unpacked(batch))
    return x, y, weight
