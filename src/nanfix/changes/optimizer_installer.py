"""Installs what a plan changes about the optimizer: its class, its constants, its memory, which
steps it takes and how large.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from keras import ops

from nanfix.changes.optimizer_memory import forget
from nanfix.model.optimizers import (
    Gradients,
    Slot,
    base,
    slots,
    trained_optimizers,
    trained_slots,
    variables_of,
)
from nanfix.model.schedules import (
    FiniteSchedule,
    ScaledSchedule,
    constant_schedule,
    scaled_schedule,
)
from nanfix.model.snapshot import Snapshot, read, restore
from nanfix.model.undo import override, put
from nanfix.private.objects import (
    ALL_REDUCE,
    CLIP_GRADIENTS,
    LEARNING_RATE,
    compile_config,
    learning_rate_of,
    loss_tracker,
)

if TYPE_CHECKING:
    from nanfix.changes.optimizer import AdaptiveClip, OptimizerSettings

# Attributes that an update only computes with, so that a variable can stand for them.
NUMBERS = ("epsilon",)
OVERRIDDEN = (CLIP_GRADIENTS, "apply", ALL_REDUCE)  # methods, in training alone
OF_NANFIX = (FiniteSchedule, ScaledSchedule)
OWN_SCHEDULE = (
    "Your own schedule is changed by a class of nanfix's: where nanfix is not installed, load a "
    "saved model with compile=False, or change the schedule in your source."
)
# How fast mean and variance of the gradient's norm follow it, per step, and the deviation that is
# taken at first, as a share of the mean.
FOLLOWING, SPREAD = 0.03, 0.25
NORMS = ("mean of norms", "variance of norms")


class Optimizing:
    """Installs the optimizer of one plan after the other in a model."""

    def __init__(self, model: keras.Model):
        self._model = model
        self._made: dict[str, tuple[keras.optimizers.Optimizer, Snapshot]] = {}
        self._numbers: dict[str, keras.Variable] = {}

    def in_variables(self, wanted: OptimizerSettings) -> set[str]:
        """Return what of the settings a traced graph reads from variables, as long as
        it is only tried.

        In half precision a variable is no equal of a number: an epsilon of 1e-8 is 0 there.
        """
        single = all(variable.dtype == "float32" for variable in self._model.trainable_variables)
        numbers = {
            name for name in NUMBERS if single and isinstance(wanted.settings.get(name), float)
        }
        return (
            numbers
            | {"rate_share"}
            | ({"global_clipnorm"} if wanted.settings.get("global_clipnorm") else set())
        )

    def install(self, wanted: OptimizerSettings, undo: ExitStack, *, trying: bool = False) -> None:
        """Make the optimizer what is `wanted`; closing `undo` brings the one there was
        back, but not its state.

        As long as it is only `trying`, numbers stand in variables, so that the next
        plan needs no new trace.
        """
        trained = trained_slots(self._model)
        for number, slot in enumerate(trained):
            if wanted.class_name is not None:
                self._exchange(
                    undo, slot, wanted.class_name, getattr(keras.optimizers, wanted.class_name)
                )
            if wanted.loss_scale is not None and number == 0:
                self._scale_loss(undo, slot, wanted.loss_scale)
            self._install_in(base(slot.optimizer), number, wanted, undo, trying)
        if wanted.fresh_moments:
            forget(self._model)

    def _install_in(
        self,
        optimizer: keras.optimizers.Optimizer,
        number: int,
        wanted: OptimizerSettings,
        undo: ExitStack,
        trying: bool,
    ) -> None:
        """Change one of the optimizers; the `number` tells it from others."""
        for name, value in wanted.settings.items():
            if name in NUMBERS and trying and name in self.in_variables(wanted):
                value = self._number(name, value, "float32")
            # Of several, some may have no such thing.
            if name != "learning_rate" and hasattr(optimizer, name):
                put(undo, optimizer, name, value)
        if wanted.settings.get("global_clipnorm"):
            norm = self._number("global_clipnorm", wanted.settings["global_clipnorm"], "float32")
            override(undo, optimizer, CLIP_GRADIENTS, lambda gradients: _clipped(gradients, norm))
        if self._model.distribute_strategy.num_replicas_in_sync == 1:
            # The sum over one replica is no sum, but a custom gradient: TensorFlow keeps every one
            # that is traced, and its graph.
            override(undo, optimizer, ALL_REDUCE, list)
        if wanted.adaptive_clip is not None:
            override(
                undo,
                optimizer,
                CLIP_GRADIENTS,
                self._adaptive(optimizer, number, wanted.adaptive_clip),
            )
        if wanted.skip_nonfinite:
            override(undo, optimizer, "apply", self._finite_only(optimizer))
        self._set_rate(undo, optimizer, wanted, trying)

    def settle(self, wanted: OptimizerSettings) -> list[str]:
        """Leave with the optimizers what stock ones can hold of the changes, and say
        how they worked out.
        """
        each, notes, clip = trained_optimizers(self._model), [], wanted.adaptive_clip
        compiled = compile_config(self._model)
        if compiled is not None:  # Keras saves the optimizer that `compile` was given
            compiled.config["optimizer"] = self._model.optimizer
        for number, optimizer in enumerate(each):
            for name in OVERRIDDEN:
                vars(optimizer).pop(name, None)
            if clip is not None:
                usual, variance = (
                    float(np.asarray(self._numbers[f"{name} {number}"])) for name in NORMS
                )
                limit = usual + clip.deviations * math.sqrt(variance)
                optimizer.global_clipnorm = float(f"{limit:.3g}")
                notes.append(
                    f"The clipping norm ended at {optimizer.global_clipnorm:.3g} and stays as "
                    "global_clipnorm."
                )
        if any(isinstance(learning_rate_of(optimizer), OF_NANFIX) for optimizer in each):
            notes.append(OWN_SCHEDULE)
        if wanted.skip_nonfinite:
            skipped, taken = self.skipped_and_taken()
            notes.append(f"{skipped} steps with a non-finite gradient were skipped, {taken} taken.")
        return notes

    def skipped_and_taken(self) -> tuple[int, int]:
        """Return how many steps the optimizers have skipped, and how many they have taken."""
        taken = (int(np.asarray(each.iterations)) for each in trained_optimizers(self._model))
        return int(np.asarray(self._numbers["skipped"])), sum(taken)

    def _exchange(
        self, undo: ExitStack, slot: Slot, key: str, make: Callable[[], keras.optimizers.Optimizer]
    ) -> None:
        """Let the model train with a fresh optimizer in a slot, made once and kept for
        the next plan that wants it.
        """
        before = slot.optimizer
        known = f"{key} in {slot.key}"
        if known not in self._made:
            with self._model.distribute_strategy.scope():
                optimizer = make()
                optimizer.build(variables_of(before, self._model))
            # What wraps another optimizer leaves that one as it is.
            others = {id(variable) for variable in before.variables}
            variables = tuple(v for v in optimizer.variables if id(v) not in others)
            self._made[known] = optimizer, Snapshot(0, 0, 0, variables, tuple(map(read, variables)))
        optimizer, fresh = self._made[known]
        for same in slots(self._model):
            if same.optimizer is before:
                undo.callback(same.put, before)
                same.put(optimizer)
        restore(fresh)

    def _scale_loss(self, undo: ExitStack, slot: Slot, scale: float) -> None:
        if not isinstance(slot.optimizer, keras.optimizers.LossScaleOptimizer):
            inner = slot.optimizer
            put(undo, inner, "loss_scale_factor", None)
            key = f"loss scale of {type(inner).__name__} {id(inner)}"
            self._exchange(undo, slot, key, lambda: keras.optimizers.LossScaleOptimizer(inner))
        slot.optimizer.dynamic_scale.assign(scale)

    def _set_rate(
        self,
        undo: ExitStack,
        optimizer: keras.optimizers.Optimizer,
        wanted: OptimizerSettings,
        trying: bool,
    ) -> None:
        """Set the learning rate, or a share of what it is; of a schedule, whatever
        makes it, by a factor.
        """
        rate, share, before = (
            wanted.settings.get("learning_rate"),
            wanted.rate_share,
            learning_rate_of(optimizer),
        )
        finite = wanted.finite_rate
        if isinstance(before, keras.Variable):
            if finite is not None and not np.isfinite(np.asarray(before)):
                before.assign(finite)
            if rate is not None or share != 1.0:
                before.assign(share * (float(np.asarray(before)) if rate is None else rate))
        elif rate is not None:
            put(undo, optimizer, LEARNING_RATE, constant_schedule(share * rate))
        elif finite is not None:
            before = FiniteSchedule(before, finite)
            put(undo, optimizer, LEARNING_RATE, scaled_schedule(before, share))
        elif share != 1.0 and trying:
            put(
                undo,
                optimizer,
                LEARNING_RATE,
                ScaledSchedule(before, self._number("rate_share", share, "float32")),
            )
        elif share != 1.0:
            put(undo, optimizer, LEARNING_RATE, scaled_schedule(before, share))

    def _number(self, name: str, value: float, dtype: str) -> keras.Variable:
        """Return a number of ours that the graph changes, set to `value`."""
        if name not in self._numbers:
            self._numbers[name] = keras.Variable(value, dtype=dtype, trainable=False)
        self._numbers[name].assign(value)
        return self._numbers[name]

    def _adaptive(
        self, optimizer: keras.optimizers.Optimizer, number: int, clip: AdaptiveClip
    ) -> Callable[[Gradients], Gradients]:
        """Return what clips the norm where it is z > `deviations` above its running mean, to
        deviations**2 / z above it: the farther out, the nearer to the mean.

        Mean and variance follow what is left of the norm; of one that is not finite, nothing.
        """
        starts = clip.norm, (SPREAD * clip.norm) ** 2
        mean, variance = (
            self._number(f"{name} {number}", start, "float32")
            for name, start in zip(NORMS, starts, strict=True)
        )

        def clipped(gradients):
            norm: Any = _norm(gradients)
            deviation: Any = ops.maximum(ops.sqrt(variance), keras.config.epsilon())
            z: Any = (norm - mean) / deviation
            beyond: Any = ops.maximum(z, clip.deviations)
            far = clip.deviations**2 / beyond
            limit: Any = ops.where(z > clip.deviations, mean + far * deviation, norm)
            away: Any = ops.where(ops.isfinite(norm), limit - mean, 0.0)
            spread: Any = ops.where(ops.isfinite(norm), ops.square(away) - variance, 0.0)
            optimizer.assign(mean, mean + FOLLOWING * away)
            optimizer.assign(variance, variance + FOLLOWING * spread)
            return _scaled_to(ops.maximum(limit, keras.config.epsilon()), norm, gradients)

        return clipped

    def _finite_only(self, optimizer: keras.optimizers.Optimizer) -> Callable[..., None]:
        """Return what takes only the steps whose gradients are all finite, and counts
        the others.
        """
        skipped = self._number("skipped", 0, "int32")
        apply = optimizer.apply

        def apply_if_finite(grads, trainable_variables=None):
            present = [getattr(g, "values", g) for g in grads if g is not None]
            finite = ops.all(ops.stack([ops.all(ops.isfinite(g)) for g in present]))

            def step() -> None:
                apply(grads, trainable_variables)

            def skip() -> None:
                optimizer.assign_add(skipped, 1)

            ops.cond(finite, step, skip)

        return apply_if_finite


def _norm(gradients: Gradients) -> Any:
    """Return the norm over all gradients in float32, whatever they are in."""
    present = [ops.cast(getattr(g, "values", g), "float32") for g in gradients if g is not None]
    return ops.norm(ops.stack([ops.norm(ops.reshape(g, (-1,))) for g in present]))


def _clipped(gradients: Gradients, limit: float) -> Gradients:
    return _scaled_to(limit, _norm(gradients), gradients)


def _scaled_to(limit: Any, norm: Any, gradients: Gradients) -> Gradients:
    """Return the gradients of this norm, made so small that it is at most `limit`."""
    factor = ops.minimum(1.0, limit / ops.maximum(norm, keras.config.epsilon()))
    return [g if g is None else ops.multiply(g, ops.cast(factor, g.dtype)) for g in gradients]


def without_skipped(model: keras.Model, undo: ExitStack) -> None:
    """Leave the loss of a step that is not taken out of the running mean, which would
    be NaN to the end of the epoch.

    In training alone: an evaluation shows what the model really gives.
    """
    tracker, train_step, training = loss_tracker(model), model.train_step, []
    update = tracker.update_state

    def update_state(values, sample_weight=None):
        if not training:
            return update(values, sample_weight=sample_weight)
        finite = ops.isfinite(values)
        weight = (
            ops.ones_like(values)
            if sample_weight is None
            else ops.cast(sample_weight, values.dtype)
        )
        return update(ops.where(finite, values, 0), ops.where(finite, weight, 0))

    def watched_step(data):
        training.append(True)
        try:
            return train_step(data)
        finally:
            training.pop()

    override(undo, tracker, "update_state", update_state)
    override(undo, model, "train_step", watched_step)
