"""Computes loss and metrics of the known targets alone, until it is taken back."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import tensorflow as tf
from keras import tree

from nanfix.model.outputs import in_order, output_names
from nanfix.model.undo import override
from nanfix.private.keras import get_keras_mask

if TYPE_CHECKING:
    import keras

    from nanfix.changes.target_mask import TargetMask


def install(model: "keras.Model", mask: "TargetMask", undo: ExitStack) -> None:
    """Give loss and metrics a prediction of its own in the place of each unknown target, and a
    weight of 0 where nothing is known.

    The gradient of a loss that is least where prediction and target agree is 0 there. The weights
    of the others make up for those: the loss is the mean over what is known in the batch.
    """
    computed, measured = model.compute_loss, model.compute_metrics

    def compute_loss(x=None, y=None, y_pred=None, sample_weight=None, training=True):
        y, sample_weight = _known(model, mask, y, y_pred, sample_weight)
        return computed(x, y, y_pred, sample_weight, training)

    def compute_metrics(x, y, y_pred, sample_weight=None):
        y, sample_weight = _known(model, mask, y, y_pred, sample_weight)
        return measured(x, y, y_pred, sample_weight)

    override(undo, model, "compute_loss", compute_loss)
    override(undo, model, "compute_metrics", compute_metrics)


def _known(
    model: "keras.Model", mask: "TargetMask", y: Any, y_pred: Any, sample_weight: Any
) -> tuple[Any, Any]:
    """Return targets without unknown ones, and sample weights in the structure of the outputs, in
    which Keras looks for them.
    """
    names = output_names(model)
    targets, outputs, weights = (
        in_order(tree.flatten(part) if part is not None else [], part, names)
        for part in (y, y_pred, sample_weight)
    )
    if len(outputs) != len(targets):
        return y, sample_weight
    if len(weights) != len(targets):
        weights = [weights[0] if weights else None] * len(targets)
    each = list(_each(mask, targets, outputs, weights))
    return tuple(
        _packed(part, [pair[position] for pair in each], names)
        for position, part in enumerate((y, y_pred))
    )


def _packed(structure: Any, leaves: list[Any], names: list[str]) -> Any:
    """Return the leaves, which stand in the order of the outputs, in this structure."""
    if isinstance(structure, Mapping) and set(structure) == set(names):
        return dict(zip(names, leaves, strict=True))
    return tree.pack_sequence_as(structure, leaves)


def _each(
    mask: "TargetMask", targets: list[Any], outputs: list[Any], weights: list[Any]
) -> Iterator[tuple[Any, Any]]:
    for target, output, weight in zip(targets, outputs, weights, strict=True):
        if not isinstance(target, tf.Tensor) or not isinstance(output, tf.Tensor):
            yield target, weight
            continue
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
        yield tf.where(known, target, instead), own


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
