"""Replays a recording one step at a time to find the exact onset, and has the failing
step looked at.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from nanfix.data.arrays import flat_arrays, rows_in, unpacked
from nanfix.explain.microscope import Observation, observe
from nanfix.model.randomness import preserved_randomness
from nanfix.model.snapshot import Snapshot, restore, take
from nanfix.model.training_step import RecordingStep, loss_of, whole
from nanfix.private.objects import loss_tracker
from nanfix.recorder.recording import RecordedStep, Recording
from nanfix.records.diagnosis import Onset, Phase, Place

# A loss beyond this overflows float32 (3.4e38) when an epoch's losses are summed, each as often as
# it has rows: 3e8 of them.
OVERFLOWING_LOSS = 1e30


@dataclass(frozen=True)
class Replay:
    """What replaying a recording showed.

    `onset` is None when the replay stayed finite: the failure was transient.
    """

    onset: Onset | None
    before: Snapshot | None = None  # the state just before the failing step
    batch: Any = None
    failing: Observation | None = None
    first: Observation | None = None  # the first batch from the initial weights
    gradient_norm: float | None = None  # of the last finite step
    loss_trend: tuple[float, ...] = ()


def replay(model: keras.Model, recording: Recording, detected: Onset) -> Replay:
    """Run the recorded batches until the state or the loss is non-finite, or the training has
    diverged; look closely at that step.

    The model is left in the state of the newest snapshot, its random state as it was.
    """
    step_of_keras = recording.step_of_keras
    if not recording.steps or step_of_keras is None:
        return Replay(detected)
    with preserved_randomness():
        restore(recording.newest)
        earlier = before = recording.newest
        losses: list[float] = []
        for index, step in enumerate(recording.steps):
            _set_rates(step)
            model.reset_metrics()  # so that the loss is this step's alone
            loss, error = _run(model, step_of_keras, step.batch)
            losses.append(loss)
            after = take(model)
            if after is None or error or recording.failed(loss):
                failing = _observed_from(before, model, step)
                if after is not None and not error and math.isfinite(loss):
                    failing = _diverged(failing, losses)
                last = _observed_from(earlier, model, recording.steps[max(index - 1, 0)])
                restore(recording.initial)
                first = observe(model, recording.first_batch)
                restore(recording.newest)
                return Replay(
                    step.at,
                    before=before,
                    batch=step.whole_batch,
                    failing=failing,
                    first=first,
                    gradient_norm=last.gradient_norm or first.gradient_norm,
                    loss_trend=tuple(losses),
                )
            earlier, before = before, after
        restore(recording.newest)
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
    return Replay(None, loss_trend=tuple(losses))


def _diverged(failing: Observation, losses: list[float]) -> Observation:
    """Return what is to be seen of a step that is finite, whose loss has risen too far."""
    told = f"the loss rose from {losses[0]:.3g} to {losses[-1]:.3g}" if len(losses) > 1 else None
    return replace(
        failing, place=Place(Phase.DIVERGENCE, values=told), phase=Phase.DIVERGENCE, operation=None
    )


def _observed_from(state: Snapshot, model: keras.Model, step: RecordedStep) -> Observation:
    restore(state)
    _set_rates(step)
    return observe(model, step.whole_batch)


def _set_rates(step: RecordedStep) -> None:
    """Set the learning rates that callbacks had set for this step."""
    for variable, value in step.rates:
        variable.assign(value)


def _run(model: keras.Model, step: RecordingStep, batch: Any) -> tuple[float, str | None]:
    try:
        logs = step.replay(batch)
    except tf.errors.InvalidArgumentError as refused:
        return math.nan, str(refused)
    loss = loss_of(logs)
    tracker = loss_tracker(model)
    if loss == 0 and tracker is not None and rows_in(whole(batch)) == 0:
        loss = float(np.asarray(tracker.total))  # over no rows Keras shows a mean of 0
    return (0.0 if loss is None else loss), None


def flat_batch(batch: Any) -> tuple[list[Any], list[Any], list[Any]]:
    """Return the flattened inputs, targets and sample weights of a batch as numpy arrays."""
    x, y, weight = (flat_arrays(part) for part in unpacked(batch))
    return x, y, weight
