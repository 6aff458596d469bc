"""What a setup changes about the optimizer: its class, its constants, its memory, which steps it takes and how large."""

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import keras
import numpy as np
from keras import ops
from keras.src.optimizers.base_optimizer import clip_by_global_norm

from nanfix.changes import AdaptiveClip
from nanfix.setup import Setup, base_optimizer, has_schedule, scaled_schedule
from nanfix.snapshot import Snapshot, read, restore
from nanfix.undo import override, put

NUMBERS = ("epsilon",)  # attributes that an update only computes with, so that a variable can stand for them
OVERRIDDEN = ("_clip_gradients", "apply", "_all_reduce_sum_gradients")  # methods, in training alone
ADAPTING = 0.1  # how fast the running quantile follows the gradient's norm, per step and as a share of it


class Optimizing:
    """Installs the optimizer of one setup after the other in a model."""

    def __init__(self, model: Any):
        self._model = model
        self._made: dict[str, tuple[Any, Snapshot]] = {}
        self._numbers: dict[str, Any] = {}

    def in_variables(self, setup: Setup) -> set[str]:
        """Return the attributes of the setup that a traced graph reads from variables, as long as it is only tried.

        In half precision a variable is no equal of a number: an epsilon of 1e-8 is 0 there.
        """
        single = all(variable.dtype == "float32" for variable in self._model.trainable_variables)
        numbers = {name for name in NUMBERS if single and isinstance(setup.optimizer.get(name), float)}
        return numbers | ({"global_clipnorm"} if setup.optimizer.get("global_clipnorm") else set())

    def install(self, setup: Setup, undo: ExitStack, *, trying: bool = False) -> None:
        """Make the optimizer what `setup` says; closing `undo` brings the one there was back, but not its state.

        As long as it is only `trying`, numbers stand in variables, so that the next setup needs no new trace.
        """
        stepping = setup.stepping
        if setup.optimizer_class is not None:
            kind = getattr(keras.optimizers, setup.optimizer_class)
            self._exchange(undo, setup.optimizer_class, kind)
        optimizer = base_optimizer(self._model)
        for name, value in setup.optimizer.items():
            if name in NUMBERS and trying and name in self.in_variables(setup):
                value = self._number(name, value, "float32")
            if name != "learning_rate":
                put(undo, optimizer, name, value)
        if setup.optimizer.get("global_clipnorm"):
            norm = self._number("global_clipnorm", setup.optimizer["global_clipnorm"], "float32")
            override(undo, optimizer, "_clip_gradients", lambda gradients: clip_by_global_norm(gradients, norm))
        if self._model.distribute_strategy.num_replicas_in_sync == 1:
            # The sum over one replica is no sum, but a custom gradient: TensorFlow keeps every one that is traced, and its graph.
            override(undo, optimizer, "_all_reduce_sum_gradients", list)
        if stepping.fresh_moments:
            forget(self._model)
        if stepping.adaptive_clip is not None:
            override(undo, optimizer, "_clip_gradients", self._adaptive(optimizer, stepping.adaptive_clip))
        if stepping.skip_nonfinite:
            override(undo, optimizer, "apply", self._finite_only(optimizer))
        if stepping.loss_scale is not None:
            self._scale_loss(undo, stepping.loss_scale)
        if "learning_rate" in setup.optimizer:
            self._set_rate(undo, setup.optimizer["learning_rate"])

    def settle(self, setup: Setup) -> list[str]:
        """Leave with the optimizer what a stock one can hold of the changes, and say how they worked out."""
        optimizer, notes = base_optimizer(self._model), []
        if hasattr(self._model, "_compile_config"):  # Keras saves the optimizer that `compile` was given
            self._model._compile_config.config["optimizer"] = self._model.optimizer
        for name in OVERRIDDEN:
            vars(optimizer).pop(name, None)
        clip = setup.stepping.adaptive_clip
        if clip is not None:
            optimizer.global_clipnorm = float(f"{clip.share * float(np.asarray(self._numbers['quantile'])):.3g}")
            notes.append(f"The clipping norm ended at {optimizer.global_clipnorm:.3g} and stays as global_clipnorm.")
        if setup.stepping.skip_nonfinite:
            skipped, taken = (int(np.asarray(number)) for number in (self._numbers["skipped"], optimizer.iterations))
            notes.append(f"{skipped} steps with a non-finite gradient were skipped, {taken} taken.")
        return notes

    def _exchange(self, undo: ExitStack, key: str, make: Callable[[], Any]) -> None:
        """Let the model train with a fresh optimizer, made once and kept for the next setup that wants it."""
        if key not in self._made:
            with self._model.distribute_strategy.scope():
                optimizer = make()
                optimizer.build(self._model.trainable_variables)
            variables = tuple(optimizer._variables)
            self._made[key] = optimizer, Snapshot(0, 0, 0, variables, tuple(map(read, variables)))
        optimizer, fresh = self._made[key]
        put(undo, self._model, "optimizer", optimizer)
        restore(fresh)

    def _scale_loss(self, undo: ExitStack, scale: float) -> None:
        if not isinstance(self._model.optimizer, keras.optimizers.LossScaleOptimizer):
            inner = self._model.optimizer
            put(undo, inner, "loss_scale_factor", None)
            self._exchange(undo, f"loss scale of {type(inner).__name__}", lambda: keras.optimizers.LossScaleOptimizer(inner))
        self._model.optimizer.dynamic_scale.assign(scale)

    def _set_rate(self, undo: ExitStack, rate: float) -> None:
        optimizer = base_optimizer(self._model)
        if has_schedule(self._model):
            schedule = optimizer._learning_rate
            now = float(np.asarray(schedule(optimizer.iterations)))
            put(undo, optimizer, "_learning_rate", scaled_schedule(schedule, rate / now))
        else:
            optimizer.learning_rate = rate

    def _number(self, name: str, value: float, dtype: str) -> Any:
        """Return a number of ours that the graph changes, set to `value`."""
        if name not in self._numbers:
            self._numbers[name] = keras.Variable(value, dtype=dtype, trainable=False)
        self._numbers[name].assign(value)
        return self._numbers[name]

    def _adaptive(self, optimizer: Any, clip: AdaptiveClip) -> Callable[..., Any]:
        """Return what clips at a share of the norm's running quantile.

        The estimate q moves by q * exp(ADAPTING * (quantile - [norm < q])), at rest where a norm lies below it that often.
        """
        quantile = self._number("quantile", clip.norm, "float32")

        def clipped(gradients):
            present = [ops.cast(getattr(g, "values", g), "float32") for g in gradients if g is not None]
            norm = ops.norm(ops.stack([ops.norm(ops.reshape(g, (-1,))) for g in present]))
            factor = ops.minimum(1.0, clip.share * quantile / ops.maximum(norm, keras.config.epsilon()))
            below: Any = ops.cast(norm < quantile, "float32")
            optimizer.assign(quantile, quantile * ops.exp(ADAPTING * (clip.quantile - below)))
            return [g if g is None else g * ops.cast(factor, g.dtype) for g in gradients]

        return clipped

    def _finite_only(self, optimizer: Any) -> Callable[..., Any]:
        """Return what takes only the steps whose gradients are all finite, and counts the others."""
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


def forget(model: Any) -> None:
    """Set what the optimizer remembers of earlier steps to what a new one with the same constants would start with.

    The number of steps taken goes back to 0 too, since moments are corrected by it, but for a schedule that counts on it.
    """
    optimizer = base_optimizer(model)
    if not optimizer.built:
        return
    with model.distribute_strategy.scope():
        fresh = type(optimizer).from_config(optimizer.get_config())
        fresh.build(optimizer._trainable_variables)  # a GAN's optimizer has only some of the model's
    kept = {id(optimizer._learning_rate)} | ({id(optimizer.iterations)} if has_schedule(model) else set())
    for variable, new in zip(optimizer.variables, fresh.variables, strict=True):
        if id(variable) not in kept:
            variable.assign(new)
