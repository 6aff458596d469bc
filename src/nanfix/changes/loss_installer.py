"""Installs a stock loss in the place of the user's: for training alone, or in the model
that is handed back.
"""

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import keras
from keras import ops, tree

from nanfix.model.activations import activation_of, change_activation
from nanfix.model.undo import override, put
from nanfix.private.keras import CompileLoss
from nanfix.private.objects import COMPILE_LOSS, compile_config, given_loss, given_loss_weights

if TYPE_CHECKING:
    import tensorflow as tf

    from nanfix.model.crossentropies import UserLoss


def compile_with(
    model: keras.Model, loss: keras.losses.Loss, factor: float, shown: str, undo: ExitStack
) -> str:
    """Compile the model with a stock loss times a factor until `undo` is closed; return the first
    half of a note of it.

    Then it evaluates, trains on and is saved with a loss that is finite where the user's is not.
    `shown` are the arguments of the loss as a person writes them.
    """
    weights = _weights(model, factor)
    put(
        undo,
        model,
        COMPILE_LOSS,
        CompileLoss(loss, weights, output_names=getattr(model, "output_names", None)),
    )
    put(undo, model, "loss", loss)
    compiled = compile_config(model)
    if compiled is not None:
        put(undo, compiled, "config", {**compiled.config, "loss": loss, "loss_weights": weights})
    times = "" if weights is None else f" (loss_weights={weights:g})"
    written = f"keras.losses.{type(loss).__name__}({shown}){times}"
    return f"The model is compiled with {written} now, which evaluate and a further fit go by"


def train_from_logits(
    model: keras.Model,
    loss: keras.losses.Loss,
    factor: float,
    last: keras.Layer | None,
    undo: ExitStack,
) -> None:
    """Compute the loss, in float32, of what goes into the activation of the `last`
    layer, or of the outputs for None.
    """
    kept: list[tuple[tf.Tensor, tf.Tensor]] = []  # what the activation gave, and of which logits
    if last is not None:
        activation = activation_of(last)

        def with_logits(values):
            kept.append((activation(values), values))
            return kept[-1][0]

        change_activation(undo, last, with_logits)
    put(undo, model, COMPILE_LOSS, CompileLoss(loss, _weights(model, factor)))
    computed = model.compute_loss

    def compute_loss(x=None, y=None, y_pred=None, sample_weight=None, training=True):
        (output,) = tree.flatten(y_pred)
        # A layer may be called more than once, and its outputs be given another shape.
        logits = next(
            (of for given, of in kept if given is output), kept[-1][1] if kept else output
        )
        kept.clear()
        if logits.shape != output.shape:
            logits = ops.reshape(logits, ops.shape(output))
        return computed(x, y, ops.cast(logits, "float32"), sample_weight, training)

    override(undo, model, "compute_loss", compute_loss)


def train_on(model: keras.Model, loss: keras.losses.Loss, factor: float, undo: ExitStack) -> None:
    """Take the gradient of this loss; the user's own goes on judging."""
    other = CompileLoss(loss, _weights(model, factor))
    computed = model.compute_loss

    def compute_loss(x=None, y=None, y_pred=None, sample_weight=None, training=True):
        with ExitStack() as during:
            if training:
                put(during, model, COMPILE_LOSS, other)
            return computed(x, y, y_pred, sample_weight, training)

    override(undo, model, "compute_loss", compute_loss)


def compute_in(model: keras.Model, dtype: str, undo: ExitStack) -> None:
    """Compute the user's single loss in this dtype, in training and in what judges it."""
    loss = in_precision(given_loss(model), dtype)
    put(undo, model, COMPILE_LOSS, CompileLoss(loss, given_loss_weights(model)))


def in_precision(loss: "UserLoss", dtype: str) -> "UserLoss":
    """Return a loss that casts what it is given to this dtype, and what it comes to back."""
    inner = keras.losses.get(loss)
    if isinstance(inner, keras.losses.Loss):
        return _InPrecision(inner, dtype)
    return lambda y_true, y_pred: _in_precision(inner, dtype, y_true, y_pred)


def _in_precision(computed: Any, dtype: str, *given: Any) -> Any:
    return ops.cast(computed(*(ops.cast(each, dtype) for each in given)), keras.config.floatx())


class _InPrecision(keras.losses.Loss):
    def __init__(self, inner: keras.losses.Loss, precision: str):
        super().__init__(inner.name, inner.reduction)
        self._inner, self._precision = inner, precision

    def call(self, y_true, y_pred):
        return _in_precision(self._inner.call, self._precision, y_true, y_pred)


def _weights(model: keras.Model, factor: float) -> float | None:
    """Return the user's weight of the single loss times the constant factor of the one in its
    place, as `compile` takes it.
    """
    given = tree.flatten(given_loss_weights(model))
    weight = float(given[0] if given and given[0] is not None else 1.0) * factor
    return None if weight == 1.0 else weight
