"""The smallest changes that take one cause away, so that steps can be run again without it."""

import functools
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf
from keras import tree

from nanfix.changes.graph_guard import install
from nanfix.changes.guards import Guard
from nanfix.changes.loss_weights import weighed
from nanfix.data.arrays import Leaf, holds_numbers, is_dense, repacked, unpacked
from nanfix.explain.microscope import Observation
from nanfix.model.activations import change_activation
from nanfix.model.addresses import walk
from nanfix.model.crossentropies import Targets, crossentropy_of
from nanfix.model.given_weights import finite_loss_weights
from nanfix.model.normalization import ruined
from nanfix.model.optimizers import divides_by_nothing, trained_optimizers, usual_rate
from nanfix.model.outputs import class_count
from nanfix.model.run import DECAYS, Run, fades, smallest_epsilon
from nanfix.model.schedules import FiniteSchedule
from nanfix.model.undo import put
from nanfix.private.objects import (
    COMPILE_LOSS,
    DTYPE_POLICY,
    LEARNING_RATE,
    accumulators,
    all_layers,
    learning_rate_of,
)
from nanfix.recorder.outset import falls_for_ever
from nanfix.records.cause import Cause
from nanfix.records.unsafe_operations import CONSTANT, UNSAFE_OPERATIONS

if TYPE_CHECKING:
    import keras

    from nanfix.model.training_step import Batch

DECAY = 0.9  # by which every optimizer forgets
EPSILON, LAYER_EPSILON = 1e-7, 1e-3  # what Keras takes when nothing is said
ACCUMULATOR, WEIGHT_DECAY = 0.1, 0.004
HOLES = (Cause.NONFINITE_INPUT, Cause.NONFINITE_TARGET, Cause.NONFINITE_WEIGHT, Cause.POISON_BATCH)
OUT_OF_DOMAIN = (
    Cause.LOSS_DOMAIN,
    Cause.LAYER_DOMAIN,
    Cause.STEP_DOMAIN,
    Cause.GRADIENT_SINGULARITY,
    Cause.LOGITS_BY_HAND,
    Cause.EMPTY_REDUCTION,
)
WITHOUT_XLA = "without XLA"
INSIDE = "with that operation kept inside its domain"
BY_ZERO = "with 0 for what that operation divides by 0"
START = (Cause.NONFINITE_START, Cause.STALE_MOMENTS)


@dataclass(frozen=True)
class Intervention:
    """One change of a training: of its batches, of the state it begins with, of the learning rates
    that were recorded along with its steps, or of what is built into its graph (`during`).

    `weights_shares` is how large the kernels of some layers are that it begins with, by address, as
    a share of what their initializer draws.
    """

    words: str = "unchanged"
    of_batch: "Callable[[Batch], Batch] | None" = None
    of_state: Callable[[], None] | None = None
    during: Callable[[ExitStack], None] | None = None
    of_rate: Callable[[Any], Any] | None = None
    weights_shares: Mapping[str, float] = field(default_factory=dict)

    def batch(self, batch: "Batch") -> "Batch":
        return batch if self.of_batch is None else self.of_batch(batch)

    def rate(self, rate: Any) -> Any:
        return rate if self.of_rate is None else self.of_rate(rate)


def together(changes: list[Intervention]) -> Intervention:
    """Return all changes as one, the first of them made first."""
    states = [change.of_state for change in changes if change.of_state is not None]
    graphs = [change.during for change in changes if change.during is not None]

    def of_batch(batch: "Batch") -> "Batch":
        return functools.reduce(lambda given, change: change.batch(given), changes, batch)

    def of_rate(rate: Any) -> Any:
        return functools.reduce(lambda given, change: change.rate(given), changes, rate)

    def of_state() -> None:
        for change in states:
            change()

    def during(undo: ExitStack) -> None:
        for change in graphs:
            change(undo)

    words = " and ".join(change.words for change in changes)
    return Intervention(words, of_batch, of_state, during if graphs else None, of_rate)


def removals(cause: Cause, failing: Observation, run: Run) -> list[Intervention]:
    """Return the ways to take away a cause that has been seen at the failing step, the usual one
    first; none where nothing that small is known.
    """
    operation = UNSAFE_OPERATIONS.get(failing.operation or "")
    ways = [removal(cause, failing, run)]
    if cause in OUT_OF_DOMAIN and operation is not None and min(operation.epsilons) == 0.0:
        ways.append(_guarded(failing, run, BY_ZERO, 0.0))
    return [way for way in ways if way is not None]


def removal(cause: Cause, failing: Observation, run: Run) -> Intervention | None:
    """Return what takes away a cause that has been seen at the failing step; None where nothing
    that small is known.
    """
    wanted, normalization = crossentropy_of(run.user_loss), failing.layer
    last = run.output_activation
    made: list[tuple[bool, Callable[[], Intervention | None]]] = [
        (
            cause in HOLES or cause is Cause.INVALID_LABEL,
            lambda: Intervention("with finite data", lambda batch: _sound(batch, run)),
        ),
        (cause is Cause.NONFINITE_LOSS_WEIGHT, lambda: _weighed(run)),
        (
            cause in START,
            lambda: Intervention("with finite weights", of_state=lambda: _finite_state(run)),
        ),
        (
            cause is Cause.RUINED_STATISTICS,
            lambda: Intervention("with finite statistics", during=lambda undo: _adapted(undo, run)),
        ),
        (
            cause is Cause.REDUCED_PRECISION,
            lambda: Intervention("in float32", during=lambda undo: _in_float32(undo, run)),
        ),
        (
            cause is Cause.XLA_ONLY,
            lambda: Intervention(
                WITHOUT_XLA, during=lambda undo: put(undo, run.model, "jit_compile", False)
            ),
        ),
        (cause is Cause.OPTIMIZER_CONSTANT, lambda: constants_in_range(run)),
        (cause is Cause.NONFINITE_RATE, lambda: finite_rates(run)),
        (
            cause is Cause.BATCH_STATISTICS and hasattr(normalization, "epsilon"),
            lambda: Intervention(
                "with an epsilon",
                during=lambda undo: put(undo, normalization, "epsilon", LAYER_EPSILON),
            ),
        ),
        (
            cause is Cause.UNSTABLE_ACTIVATION and wanted is not None and last is not None,
            lambda: _with_outputs(last, wanted.activation if wanted is not None else ""),
        ),
        (cause in OUT_OF_DOMAIN, lambda: _guarded(failing, run, INSIDE)),
        (cause is Cause.NONFINITE_CONSTANT, lambda: _filled(failing, run)),
    ]
    return next((make() for applies, make in made if applies), None)


def _weighed(run: Run) -> Intervention:
    """Return the training without the rows whose weight is not finite, and with weights of outputs
    that are.
    """
    outputs = tuple(finite_loss_weights(run))

    def during(undo: ExitStack) -> None:
        put(undo, run.model, COMPILE_LOSS, weighed(run.model, outputs))

    words = "with finite weights of the loss"
    return Intervention(words, lambda b: _sound(b, run), during=during if outputs else None)


def _with_outputs(last: Any, activation: str) -> Intervention:
    return Intervention(
        f"with {activation} outputs", during=lambda undo: _activated(undo, last[1], activation)
    )


def constants_in_range(run: Run) -> Intervention:
    """Return the optimizer with every constant that is out of range at its default, and a
    negative rate turned.
    """

    def during(undo: ExitStack) -> None:
        for optimizer in trained_optimizers(run.model):
            for name in DECAYS:
                value = getattr(optimizer, name, None)
                if isinstance(value, float | int) and not fades(value):
                    put(undo, optimizer, name, DECAY)
            epsilon = getattr(optimizer, "epsilon", None)
            if isinstance(epsilon, float | int):
                put(undo, optimizer, "epsilon", max(epsilon, EPSILON, smallest_epsilon(run)))
            if turns_weights(optimizer):
                put(undo, optimizer, "weight_decay", WEIGHT_DECAY)

    words = "with the optimizer's constants in range"
    return Intervention(words, None, lambda: _state_in_range(run), during, of_rate=abs)


def _state_in_range(run: Run) -> None:
    """Turn negative rates, and fill accumulators that would be divided by."""
    for optimizer in trained_optimizers(run.model):
        rate = learning_rate_of(optimizer)
        if hasattr(rate, "assign") and float(np.asarray(rate)) < 0.0:
            rate.assign(np.abs(np.asarray(rate)))
        for each in accumulators(optimizer) if divides_by_nothing(optimizer) else ():
            each.assign(np.maximum(np.asarray(each), ACCUMULATOR))


def finite_rates(run: Run) -> Intervention:
    """Return the optimizers with their default rate wherever theirs is not finite."""

    def during(undo: ExitStack) -> None:
        for optimizer in trained_optimizers(run.model):
            rate = learning_rate_of(optimizer)
            if not hasattr(rate, "assign"):
                finite = FiniteSchedule(rate, usual_rate(optimizer))
                put(undo, optimizer, LEARNING_RATE, finite)

    def of_rate(rate: Any) -> Any:
        return np.where(np.isfinite(rate), rate, usual_rate(run.optimizers[0]))

    return Intervention("with a finite learning rate", during=during, of_rate=of_rate)


def turns_weights(optimizer: "keras.optimizers.Optimizer") -> bool:
    """Say whether weight decay takes more of a weight than there is of it, at each step."""
    decay, rate = (
        getattr(optimizer, "weight_decay", None),
        getattr(optimizer, "learning_rate", None),
    )
    if not isinstance(decay, float | int) or rate is None:
        return False
    return not 0.0 <= decay * float(np.asarray(rate)) < 1.0


def _sound(batch: "Batch", run: Run) -> "Batch":
    """Return a batch with 0 for what is not finite and a class that exists for every label."""

    def finite(leaf: Leaf) -> Leaf:
        if not is_dense(leaf) or not leaf.dtype.is_floating:
            return leaf
        return tf.where(tf.math.is_finite(leaf), leaf, tf.zeros_like(leaf))

    def label(leaf: Leaf) -> Leaf:
        if not holds_numbers(leaf):
            return leaf
        if classes is not None:
            last = min(classes - 1, leaf.dtype.max)
            return tf.clip_by_value(leaf, tf.cast(0, leaf.dtype), tf.cast(last, leaf.dtype))
        if form is Targets.SHARES:
            return tf.maximum(leaf, tf.cast(0, leaf.dtype))
        return tf.clip_by_value(leaf, tf.cast(0, leaf.dtype), tf.cast(1, leaf.dtype))

    x, y, weight = unpacked(batch)
    x, y, weight = (tree.map_structure(finite, part) for part in (x, y, weight))
    crossentropy, classes = crossentropy_of(run.user_loss), class_count(run)
    form = None if crossentropy is None else crossentropy.targets
    falling = form is Targets.SHARES and falls_for_ever(run.model)
    if classes is not None or form is Targets.EACH or falling:
        y = tree.map_structure(label, y)
    return repacked(batch, x, y, weight)


def _finite_state(run: Run) -> None:
    for variable in (
        *run.model.variables,
        *(each for optimizer in run.optimizers for each in optimizer.variables),
    ):
        values = np.asarray(variable)
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            variable.assign(np.where(np.isfinite(values), values, 0.0))


def _adapted(undo: ExitStack, run: Run) -> None:
    for _, layer in ruined(run.model):
        for name, instead in (("mean", 0.0), ("variance", 1.0)):
            values = np.asarray(getattr(layer, name))
            finite = np.where(np.isfinite(values), values, instead).astype("float32")
            put(undo, layer, name, tf.constant(finite))


def _in_float32(undo: ExitStack, run: Run) -> None:
    import keras

    for layer in all_layers(run.model):
        put(undo, layer, DTYPE_POLICY, keras.DTypePolicy("float32"))


def _activated(undo: ExitStack, layer: "keras.Layer", activation: str) -> None:
    import keras

    change_activation(undo, layer, keras.activations.get(activation))


def _guarded(
    failing: Observation, run: Run, words: str, epsilon: float | None = None
) -> Intervention | None:
    place, operation = failing.place, UNSAFE_OPERATIONS.get(failing.operation or "")
    if operation is None:
        return None
    address = next((a for a, layer in walk(run.model) if layer.name == place.layer), None)
    if place.source is None and address is None:
        return None
    epsilon = max(operation.epsilons) if epsilon is None else epsilon
    return _with_guard(
        words, Guard(operation.name, place.source, address, epsilon, place.code), run
    )


def _filled(failing: Observation, run: Run) -> Intervention:
    place = failing.place
    guard = Guard(CONSTANT, place.source, run.address_of(place.layer), 0.0, place.code)
    return _with_guard("with finite numbers in that constant", guard, run)


def _with_guard(words: str, guard: Guard, run: Run) -> Intervention:
    return Intervention(words, during=lambda undo: install(run.model, (guard,), undo))
