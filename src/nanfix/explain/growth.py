"""What speaks for an explosion: how large the weights were, and how loss, weights and
gradient grew.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nanfix.changes.optimizer import OptimizerSettings
from nanfix.changes.plan import Plan
from nanfix.explain._signal import RISEN, Loop, Signal, signal_at_the_start
from nanfix.explain.fallen_weights import fallen_weights
from nanfix.explain.loss_probe import falls_far_out
from nanfix.explain.replay import Replay
from nanfix.model.crossentropies import SMALLEST, crossentropy_of, has_negative_shares
from nanfix.model.optimizers import normalizes
from nanfix.model.run import Run
from nanfix.private.objects import all_layers, direct_layers, own_kernel
from nanfix.recorder.recording import GREW, TIMES_THE_FIRST, Recording
from nanfix.records.fallen_weight import FallenWeight

# Numbers beyond this have grown; an operation that fails on smaller ones left its domain.
HUGE = 1e9
LARGE = 10.0  # inputs and targets of a larger root mean square are not of unit scale
DEEP = 1e6  # times so far below 0, where no density of numbers in float32 comes
FAR = 10.0  # for a number that goes into an activation
JUMP = 1e3  # times the rate before: all of it is far too much
# A layer that multiplies its input by more has weights too large for its width: those that
# LeCun's, Glorot's and He's initializers draw multiply it by at most 1.42.
WIDE_GAIN = 2.5


@dataclass(frozen=True)
class Growth:
    """What speaks for an explosion: the initial weights, the first step against them, the course.

    Attributes:
        gains: name of each layer, and how much it multiplies its input: the root mean square of the
            initial kernel times sqrt(fan-in).
        first_direction_norm: of what the learning rate multiplies in the first step, over all
            variables: the gradient, or about 1 for each weight where the optimizer normalizes it.
        weight_norm: over all trainable variables, at the start.
        learning_rate: of the newest state before the failure; `first_learning_rate` at the first
            step, `failing_learning_rate` at the step that failed, where a schedule or a callback
            may have it elsewhere.
        decay_of_a_step: the share of itself that a weight loses at each step.
        gradient_rise: the norm of the first step's gradient at the first variable, as a multiple of
            that at the last one.
        signal: how large the numbers are that the untrained model makes of real rows of unit scale.
        trend: how far loss and weights rose before the failure, in words.
        fallen: the first loss and the lowest, where that lies so far below 0 that no least value
            can have been near.
        outgrown: the direct layers of the model whose weights were many times as large at last.
        fallen_weights: those that began above 0 and have come to 0 or below.
    """

    gains: tuple[tuple[str, float], ...]
    first_direction_norm: float | None
    weight_norm: float
    learning_rate: float | None
    first_learning_rate: float | None
    failing_learning_rate: float | None = None
    decay_of_a_step: float = 0.0
    gradient_rise: float = 1.0
    trend: str = ""
    signal: Signal = field(default_factory=Signal)
    fallen: tuple[float, float] | None = None
    outgrown: tuple[str, ...] = ()
    fallen_weights: tuple[FallenWeight, ...] = ()

    @property
    def wide(self) -> list[tuple[str, float]]:
        """The layers whose initial weights are too large for their width, with the gain of each."""
        return [(name, gain) for name, gain in self.gains if gain > WIDE_GAIN]

    @property
    def loudest(self) -> tuple[str, float] | None:
        """The layer at which the untrained model makes of rows of unit scale far greater numbers;
        None where it keeps their scale.
        """
        found = max(self.signal.sizes.items(), key=lambda pair: pair[1], default=("", 0.0))
        return found if found[1] > RISEN else None

    @property
    def fed_back(self) -> Loop | None:
        """The layer that feeds its growing output back into itself, with weights that are not too
        large by themselves; None where there is none.
        """
        return None if self.wide else self.signal.loop

    @property
    def first_step(self) -> float | None:
        """The first step as a share of the weights."""
        rate, norm = self.first_learning_rate, self.first_direction_norm
        if norm is None or rate is None or not self.weight_norm:
            return None
        return rate * norm / self.weight_norm

    @property
    def set_rate(self) -> float | None:
        """The learning rate that a callback had set where the run failed, no more than `JUMP` times
        that before: from there on down a rate is sought.
        """
        failing, before = self.failing_learning_rate, self.learning_rate
        if failing is None or before is None:
            return before if failing is None else failing
        return min(failing, JUMP * before) if before > 0 else failing


def measure_growth(
    run: Run, plan: Plan, recording: Recording, seen: Replay, learning_rate: float | None
) -> Growth:
    """Measure the initial weights and how the loss and the weights went from there."""
    held = recording.initial.held(run.model.variables)
    initial = {known: np.asarray(tensor) for known, tensor in held.items()}
    trainable = [initial[id(v)] for v in run.model.trainable_variables if id(v) in initial]
    gains = []
    for layer in all_layers(run.model)[1:]:
        recurrent = getattr(layer, "recurrent_kernel", None)
        kernels = [initial.get(id(each)) for each in (own_kernel(layer), recurrent)]
        found = [_gain(kernel) for kernel in kernels if kernel is not None and kernel.ndim >= 2]
        if found:
            gains.append((layer.name, max(found)))
    squares = sum(float(np.square(weight, dtype="float64").sum()) for weight in trainable)
    return Growth(
        gains=tuple(gains),
        first_direction_norm=_direction_norm(run, seen),
        weight_norm=float(np.sqrt(squares)),
        learning_rate=learning_rate,
        failing_learning_rate=seen.learning_rate,
        first_learning_rate=(
            learning_rate if seen.first_learning_rate is None else seen.first_learning_rate
        ),
        decay_of_a_step=plan.of(OptimizerSettings).decay_of_a_step(run),
        gradient_rise=_gradient_rise(seen),
        trend=_trend(recording),
        signal=signal_at_the_start(run, recording),
        fallen=_fallen(run, recording),
        outgrown=tuple(_outgrown(run, recording, seen)),
        fallen_weights=tuple(fallen_weights(run, recording, seen)),
    )


def _fallen(run: Run, recording: Recording) -> tuple[float, float] | None:
    """Return the first loss and the lowest, where it has fallen far below 0. A crossentropy has a
    least value, but for shares below 0: with these it may rise as far, too, and is low where no
    probability that Keras keeps apart from 0 could make it so.
    """
    first = recording.loss_at.get(recording.initial.total, math.nan)
    finite = [loss for loss in recording.losses if math.isfinite(loss)]
    if not finite or not math.isfinite(first):
        return None
    lowest, far = min(finite), -TIMES_THE_FIRST * max(abs(first), 1.0)
    if has_negative_shares(run.user_loss, run.sample.targets):
        least = min(float(np.nanmin(each)) for each in run.sample.targets)
        return (first, lowest) if lowest < -math.log(SMALLEST) * least else None
    if crossentropy_of(run.user_loss) is not None:
        return None
    # It may overshoot at last, which no loss does so far below 0 that has a least value, and one
    # whose outputs alone make it fall for ever at any time.
    falls = lowest < far and (finite[-1] == lowest or lowest < DEEP * far)
    below = lowest < -LARGE * max(abs(first), 1.0)
    return (first, lowest) if falls or (below and falls_far_out(run)) else None


def _outgrown(run: Run, recording: Recording, seen: Replay) -> Iterator[str]:
    """Yield the names of the direct layers whose weights were many times as large just before the
    failing step as they were at first.
    """
    if seen.before is None:
        return
    weights = run.model.trainable_variables
    first, last = (state.held(weights) for state in (recording.initial, seen.before))
    for layer in direct_layers(run.model):
        known = [id(v) for v in layer.trainable_variables if id(v) in first and id(v) in last]
        before, after = (sum(_squares(state[v]) for v in known) for state in (first, last))
        if after > GREW**2 * before > 0.0:
            yield layer.name


def _squares(tensor: Any) -> float:
    """Return the sum of squares of a tensor, or of an array, as a snapshot on disk has them."""
    return float(np.square(np.asarray(tensor, "float64")).sum())


def _direction_norm(run: Run, seen: Replay) -> float | None:
    norm = seen.first.gradient_norm if seen.first is not None else None
    if norm is None or not all(normalizes(optimizer) for optimizer in run.optimizers):
        return norm
    weights = sum(int(np.prod(variable.shape)) for variable in run.model.trainable_variables)
    return math.sqrt(weights)


def _gain(kernel: np.ndarray) -> float:
    """Return by how much a kernel, shape (..., units), multiplies the deviation of its input."""
    fan_in = np.prod(kernel.shape[:-1])
    return float(np.sqrt(np.mean(np.square(kernel, dtype="float64")) * fan_in))


def _gradient_rise(seen: Replay) -> float:
    """Return how much the gradient grows on its way back through the layers."""
    norms = seen.first.gradient_norms if seen.first is not None else ()
    norms = [norm for norm in norms if math.isfinite(norm) and norm > 0.0]
    return norms[0] / norms[-1] if norms else 1.0


def _trend(recording: Recording) -> str:
    """Say how far loss and weights rose before the failure, where they did."""
    losses, norms = recording.losses, [snapshot.weight_norm for snapshot in recording.snapshots]
    parts = []
    if losses:
        lowest = min(range(len(losses)), key=losses.__getitem__)
        if losses[-1] > RISEN * abs(losses[lowest]):
            steps = len(losses) - 1 - lowest
            within = "in one step" if steps == 1 else f"within {steps} steps"
            parts.append(f"the loss rose from {losses[lowest]:.3g} to {losses[-1]:.3g} {within}")
    if norms[-1] > RISEN * norms[0]:
        parts.append(
            f"the norm of the weights {'' if parts else 'rose '}from {norms[0]:.3g} to "
            f"{norms[-1]:.3g}"
        )
    return " and ".join(parts)


def is_steep(activation: Callable[[Any], Any]) -> bool:
    """Say whether an activation makes of moderate numbers far greater ones, as exp does."""
    # Of rank 4, for a softmax that goes along the last axis of attention.
    far = np.full((1, 1, 1, 1), FAR, "float32")
    return bool(np.abs(np.asarray(activation(far))).max() > FAR**2)
