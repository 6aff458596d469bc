"""What a setup changes about the loss that is trained on; what is evaluated stays the user's."""

from contextlib import ExitStack
from typing import Any

import keras
from keras import ops
from keras.src.trainers.compile_utils import CompileLoss

from nanfix.activations import activation_of, change_activation
from nanfix.changes import LogitsLoss, RobustLoss
from nanfix.setup import Setup
from nanfix.undo import override, put


def install_objective(model: Any, setup: Setup, undo: ExitStack) -> None:
    """Let the model train on the setup's loss until `undo` is closed."""
    if isinstance(setup.loss, LogitsLoss):
        _from_logits(model, setup, setup.loss, undo)
    elif isinstance(setup.loss, RobustLoss):
        _robust(model, setup.loss, undo)
    if setup.stepping.skip_nonfinite and model._loss_tracker is not None:
        _without_skipped(model, undo)


def _from_logits(model: Any, setup: Setup, wanted: LogitsLoss, undo: ExitStack) -> None:
    kept: dict[str, Any] = {}
    if not wanted.raw_outputs:
        _, layer = setup.activations[-1]
        activation = activation_of(layer)

        def with_logits(values):
            kept["logits"] = values
            return activation(values)

        change_activation(undo, layer, with_logits)
    built_in = getattr(keras.losses, wanted.class_name)(from_logits=True, reduction=wanted.reduction)
    put(undo, model, "_compile_loss", CompileLoss(loss=lambda y, z: wanted.factor * built_in(y, z)))

    def compute_loss(x=None, y=None, y_pred=None, sample_weight=None, training=True):
        return type(model).compute_loss(model, x, y, ops.cast(kept.get("logits", y_pred), "float32"), sample_weight, training)

    override(undo, model, "compute_loss", compute_loss)


def _robust(model: Any, wanted: RobustLoss, undo: ExitStack) -> None:
    kind = getattr(keras.losses, wanted.name)
    stock = kind(**dict(wanted.arguments))
    robust = CompileLoss(loss=lambda y, f: wanted.factor * stock(y, f))

    def compute_loss(x=None, y=None, y_pred=None, sample_weight=None, training=True):
        with ExitStack() as during:
            if training:
                put(during, model, "_compile_loss", robust)
            return type(model).compute_loss(model, x, y, y_pred, sample_weight, training)

    override(undo, model, "compute_loss", compute_loss)


def _without_skipped(model: Any, undo: ExitStack) -> None:
    """Leave the loss of a step that is not taken out of the running mean, which would be NaN to the end of the epoch.

    In training alone: an evaluation shows what the model really gives.
    """
    tracker, train_step, training = model._loss_tracker, model.train_step, []
    update = tracker.update_state

    def update_state(values, sample_weight=None):
        if not training:
            return update(values, sample_weight=sample_weight)
        finite = ops.isfinite(values)
        weight = ops.ones_like(values) if sample_weight is None else ops.cast(sample_weight, values.dtype)
        return update(ops.where(finite, values, 0), ops.where(finite, weight, 0))

    def watched_step(data):
        training.append(True)
        try:
            return train_step(data)
        finally:
            training.pop()

    override(undo, tracker, "update_state", update_state)
    override(undo, model, "train_step", watched_step)
