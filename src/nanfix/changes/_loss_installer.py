"""Installs what a plan changes about the loss that is trained on, and what the model that is handed back is compiled with."""

import functools
from contextlib import ExitStack
from typing import Any

import keras
from keras import ops, tree

from nanfix.changes.loss import LogitsLoss, Loss, RobustLoss
from nanfix.model.activations import activation_of, change_activation
from nanfix.model.crossentropies import CROSSENTROPIES
from nanfix.model.run import Run
from nanfix.model.undo import override, put
from nanfix.private.keras import CompileLoss
from nanfix.private.objects import COMPILE_LOSS, compile_config, given_loss_weights


def install_objective(model: Any, run: Run, wanted: Loss, undo: ExitStack) -> None:
    """Let the model train on the loss that is `wanted` until `undo` is closed."""
    if isinstance(wanted, LogitsLoss):
        _from_logits(model, run, wanted, undo)
    elif isinstance(wanted, RobustLoss):
        _robust(model, wanted, undo)


def compile_with(model: Any, wanted: Loss, undo: ExitStack) -> list[str]:
    """Compile the model with the stock loss that stands for the one that is `wanted` until `undo` is closed; return notes of it.

    Then it evaluates, trains on and is saved with a loss that is finite where the user's is not.
    """
    if not isinstance(wanted, LogitsLoss | RobustLoss):
        return []
    loss, weights = _stock(wanted, raw=isinstance(wanted, LogitsLoss) and wanted.raw_outputs), _weights(model, wanted)
    put(undo, model, COMPILE_LOSS, CompileLoss(loss, weights, output_names=getattr(model, "output_names", None)))
    put(undo, model, "loss", loss)
    held = compile_config(model)
    if held is not None:
        put(undo, held, "config", {**held.config, "loss": loss, "loss_weights": weights})
    told = f"The model is compiled with {_written(loss, wanted, weights)} now, which evaluate and a further fit go by"
    if isinstance(wanted, LogitsLoss):
        return [f"{told}; it is your loss, computed so that it stays finite."]
    return [f"{told}, no longer with your own loss: give compile a metric to see that."]


def _stock(wanted: LogitsLoss | RobustLoss, *, raw: bool) -> Any:
    if isinstance(wanted, RobustLoss):
        loss = getattr(keras.losses, wanted.name)(**dict(wanted.arguments))
        loss.get_config = functools.partial(
            dict, {**loss.get_config(), **dict(wanted.arguments)}
        )  # Keras leaves them out of Huber's
        return loss
    return getattr(keras.losses, CROSSENTROPIES[wanted.name].class_name)(from_logits=raw, reduction=wanted.reduction)


def _weights(model: Any, wanted: LogitsLoss | RobustLoss) -> Any:
    """Return the user's weight of the single loss times the constant factor of the one in its place, as `compile` takes it."""
    given = tree.flatten(given_loss_weights(model))
    weight = float(given[0] if given and given[0] is not None else 1.0) * wanted.factor
    return None if weight == 1.0 else weight


def _written(loss: Any, wanted: LogitsLoss | RobustLoss, weights: float | None) -> str:
    shown = ", ".join(f"{name}={value:g}" for name, value in wanted.arguments) if isinstance(wanted, RobustLoss) else ""
    times = "" if weights is None else f" (loss_weights={weights:g})"
    return f"keras.losses.{type(loss).__name__}({shown}){times}"


def _from_logits(model: Any, run: Run, wanted: LogitsLoss, undo: ExitStack) -> None:
    kept: dict[str, Any] = {}
    if not wanted.raw_outputs:
        _, layer = run.activations[-1]
        activation = activation_of(layer)

        def with_logits(values):
            kept["logits"] = values
            return activation(values)

        change_activation(undo, layer, with_logits)
    put(undo, model, COMPILE_LOSS, CompileLoss(_stock(wanted, raw=True), _weights(model, wanted)))
    computed = model.compute_loss

    def compute_loss(x=None, y=None, y_pred=None, sample_weight=None, training=True):
        return computed(x, y, ops.cast(kept.get("logits", y_pred), "float32"), sample_weight, training)

    override(undo, model, "compute_loss", compute_loss)


def _robust(model: Any, wanted: RobustLoss, undo: ExitStack) -> None:
    robust = CompileLoss(_stock(wanted, raw=False), _weights(model, wanted))
    computed = model.compute_loss

    def compute_loss(x=None, y=None, y_pred=None, sample_weight=None, training=True):
        with ExitStack() as during:
            if training:
                put(during, model, COMPILE_LOSS, robust)
            return computed(x, y, y_pred, sample_weight, training)

    override(undo, model, "compute_loss", compute_loss)
