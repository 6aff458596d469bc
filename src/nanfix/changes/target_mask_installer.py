"""Computes loss and metrics of the known targets alone, until it is taken back."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

import tensorflow as tf
from keras import tree

from nanfix.model.outputs import in_order, last_names
from nanfix.model.undo import override
from nanfix.private.keras import get_keras_mask
from nanfix.private.objects import function_of, given_metrics

if TYPE_CHECKING:
    import keras

    from nanfix.changes.target_mask import TargetMask


def install(model: "keras.Model", mask: "TargetMask", undo: ExitStack) -> None:
    """Give loss and metrics a prediction of its own in the place of each unknown target, and a
    weight of 0 where nothing is known.

    The gradient of a loss that is least where prediction and target agree is 0 there. The weights
    of the others make up for those: the loss is the mean over what is known in the batch. Metrics
    are given the rows of which the target is known.
    """
    computed, measured = model.compute_loss, model.compute_metrics

    def compute_loss(x=None, y=None, y_pred=None, sample_weight=None, training=True):
        filled = partial(_filled, mask)
        y, y_pred, sample_weight = _each(model, filled, y, y_pred, sample_weight)
        return computed(x, y, y_pred, sample_weight, training)

    def compute_metrics(x, y, y_pred, sample_weight=None):
        if not _are_users_own(given_metrics(model)):  # those see to it themselves
            known = partial(_filled if model.jit_compile else _known, mask)
            y, y_pred, sample_weight = _each(model, known, y, y_pred, sample_weight)
        return measured(x, y, y_pred, sample_weight)

    override(undo, model, "compute_loss", compute_loss)
    override(undo, model, "compute_metrics", compute_metrics)


def _each(
    model: "keras.Model",
    changed: Callable[[Any, Any, Any], tuple[Any, Any, Any]],
    y: Any,
    y_pred: Any,
    sample_weight: Any,
) -> tuple[Any, Any, Any]:
    """Return targets, outputs and weights, each output with its own `changed`; the weights in the
    structure of the outputs, in which Keras looks for them.
    """
    names = last_names(model)
    targets, outputs, weights = (
        in_order(tree.flatten(part) if part is not None else [], part, names)
        for part in (y, y_pred, sample_weight)
    )
    if len(outputs) != len(targets):
        return y, y_pred, sample_weight
    if len(weights) != len(targets):
        weights = [weights[0] if weights else None] * len(targets)
    each = [
        (target, output, weight)
        if not isinstance(target, tf.Tensor) or not isinstance(output, tf.Tensor)
        else changed(target, output, weight)
        for target, output, weight in zip(targets, outputs, weights, strict=True)
    ]
    targets, outputs, weights = (list(leaves) for leaves in zip(*each, strict=True))
    return (
        _packed(y, targets, names),
        _packed(y_pred, outputs, names),
        _packed(y_pred, weights, names),
    )


def _packed(structure: Any, leaves: list[Any], names: list[str]) -> Any:
    """Return the leaves, which stand in the order of the outputs, in this structure."""
    if isinstance(structure, Mapping) and set(structure) == set(names):
        return dict(zip(names, leaves, strict=True))
    return tree.pack_sequence_as(structure, leaves)


def _filled(mask: "TargetMask", target: Any, output: Any, weight: Any) -> tuple[Any, Any, Any]:
    """Return a target with what the model gives where it is unknown, and a weight of 0 there."""
    known = _is_known(mask, target)
    alike = output.shape.rank == target.shape.rank and output.shape[-1] == target.shape[-1]
    instead = tf.zeros_like(target)
    if alike and target.dtype.is_floating:
        instead = tf.stop_gradient(tf.cast(output, target.dtype))
    by_cell = output.shape.rank == target.shape.rank
    counts = tf.reduce_any(known, axis=-1) if by_cell else known
    own = tf.cast(counts, tf.float32) * _share(known, output, by_cell=by_cell)
    if weight is not None:
        rank = own.shape.rank or 1
        weight = tf.cast(weight, tf.float32)
        more = [1] * max(rank - weight.shape.rank, 0)
        own *= tf.reshape(weight, tf.concat([tf.shape(weight)[:rank], more], 0))
    return tf.where(known, target, instead), output, own


def _known(mask: "TargetMask", target: Any, output: Any, weight: Any) -> tuple[Any, Any, Any]:
    """Return the rows whose target is known, where a row has one; else what is filled."""
    if target.shape.rank != 1 and target.shape[1:] != (1,):
        return _filled(mask, target, output, weight)
    known = tf.reshape(_is_known(mask, target), [-1])
    target, output = tf.boolean_mask(target, known), tf.boolean_mask(output, known)
    return target, output, None if weight is None else tf.boolean_mask(weight, known)


def _are_users_own(metrics: Any) -> bool:
    """Say whether there are metrics, and none of them is one of Keras'."""
    leaves = [each for each in tree.flatten(metrics) if each is not None]
    functions = [function_of(each) for each in leaves]
    return bool(leaves) and not any(
        isinstance(each, str) or getattr(each, "__module__", "").startswith("keras.")
        for each in functions
    )


def _share(known: Any, output: Any, *, by_cell: bool) -> Any:
    """Return how many targets there are for each known one, of those that Keras' mask leaves."""
    looked_at, masked = tf.cast(known, tf.float32), get_keras_mask(output)
    every = tf.ones_like(looked_at)
    if masked is not None:
        kept = tf.cast(masked, tf.float32)
        kept = kept[..., None] if by_cell else kept
        looked_at, every = looked_at * kept, every * kept
    return tf.reduce_sum(every) / tf.maximum(tf.reduce_sum(looked_at), 1.0)


def _is_known(mask: "TargetMask", target: Any) -> Any:
    known = tf.ones_like(target, tf.bool)
    if mask.nonfinite and target.dtype.is_floating:
        known &= tf.math.is_finite(target)
    for code in mask.codes:
        known &= target != tf.cast(code, target.dtype)
    if mask.classes is not None:
        label = tf.cast(target, tf.float64)
        known &= (label >= 0) & (label < mask.classes)
    return known
