"""Batches with one cause taken away: brought to unit scale, or without values that lie far out."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf
from keras import tree

from nanfix.changes.maps import Affine
from nanfix.data.arrays import Leaf, holds_numbers, is_dense, repacked, unpacked
from nanfix.data.measured_targets import measured_targets
from nanfix.model.run import Run, Sample

if TYPE_CHECKING:
    from nanfix.model.training_step import Batch


@dataclass(frozen=True)
class Moments:
    """Mean and standard deviation: of each feature, shape (features,), or of all
    numbers, shape ().
    """

    mean: np.ndarray
    deviation: np.ndarray

    @classmethod
    def of(cls, array: np.ndarray, axis: tuple[int, ...] | None) -> "Moments":
        """Return the moments of the finite cells over `axis`; 1 for a deviation of 0."""
        seen = np.isfinite(array)
        count = np.maximum(seen.sum(axis=axis), 1)
        mean = np.where(seen, array, 0.0).sum(axis=axis, dtype="float64") / count
        squares = np.where(seen, array - mean, 0.0) ** 2
        deviation = np.sqrt(squares.sum(axis=axis, dtype="float64") / count)
        return cls(mean, np.where(deviation > 0.0, deviation, 1.0))

    def leaving(self, features: frozenset[int]) -> "Moments":
        """Return the moments with which these features stay as they are."""
        if not features:
            return self
        named = np.isin(np.arange(self.mean.shape[-1]), list(features))
        return Moments(np.where(named, 0.0, self.mean), np.where(named, 1.0, self.deviation))

    def about_zero(self, wanted: bool) -> "Moments":
        """Return the moments about 0, with which 0 stays 0, where that is `wanted`."""
        if not wanted:
            return self
        return Moments(np.zeros_like(self.mean), np.hypot(self.mean, self.deviation))


def input_moments(sample: Sample) -> list[Moments | None]:
    """Return the moments of each feature of the inputs, 0 and 1 of those that name something; None
    for an input that is no quantity.
    """
    measured = {id(array) for array in sample.measured}
    axes = [tuple(range(max(array.ndim - 1, 1))) for array in sample.inputs]
    names = sample.names or (None,) * len(axes)
    found = zip(sample.inputs, axes, names, strict=True)
    return [
        Moments.of(array, axis)
        .leaving(sample.categories.get(name or "", frozenset()))
        .about_zero(name in sample.keep_zero)
        if id(array) in measured
        else None
        for array, axis, name in found
    ]


def target_moments(run: Run, sample: Sample) -> list[Moments | None]:
    """Return the moments of all numbers of each of the targets of a sample of the run; None for
    those that are no measured values.
    """
    measured = {each.index for each in measured_targets(run)}
    arrays = enumerate(sample.targets)
    return [Moments.of(array, axis=None) if at in measured else None for at, array in arrays]


def of_unit_scale(
    batch: "Batch",
    *,
    inputs: list[Moments | None] | None = None,
    targets: list[Moments | None] | None = None,
) -> "Batch":
    """Return a batch with its inputs or its targets, or both, brought to unit scale."""
    x, y, weight = unpacked(batch)
    x = x if inputs is None else _each_scaled(x, inputs)
    y = y if targets is None else _each_scaled(y, targets)
    return repacked(batch, x, y, weight)


def _each_scaled(given: Any, moments: list[Moments | None]) -> Any:
    pairs = zip(tree.flatten(given), moments, strict=True)
    return tree.pack_sequence_as(given, [_scaled(leaf, by) for leaf, by in pairs])


def _scaled(leaf: Leaf, moments: Moments | None) -> Leaf:
    if moments is None or leaf is None:
        return leaf
    if isinstance(leaf, tf.distribute.DistributedValues):
        return type(leaf)([_scaled(part, moments) for part in leaf.values])
    centered = tf.cast(leaf, tf.float32) - np.float32(moments.mean)
    values = centered / np.float32(moments.deviation)
    return tf.cast(values, leaf.dtype) if leaf.dtype.is_floating else values


def with_known_targets(batch: "Batch", codes: tuple[float, ...], instead: float) -> "Batch":
    """Return a batch with a usual target in the place of each of these codes."""

    def known(leaf: Leaf) -> Leaf:
        if not holds_numbers(leaf):
            return leaf
        for code in codes:
            coded = tf.cast(leaf, tf.float32) == np.float32(code)  # a byte has no -999
            leaf = tf.where(coded, tf.cast(instead, leaf.dtype), leaf)
        return leaf

    x, y, weight = unpacked(batch)
    return repacked(batch, x, tree.map_structure(known, y), weight)


def with_known_inputs(
    batch: "Batch", filled: Mapping[int, tuple[tuple[float, ...], tuple[float, ...]]]
) -> "Batch":
    """Return a batch with a usual number in the place of each that stands for a missing value.

    Args:
        filled: by index of the input what stands for a missing value of each feature, and what is
            usual for it.
    """
    x, y, weight = unpacked(batch)
    leaves = tree.flatten(x)
    for index, (missing, usual) in filled.items():
        leaf = leaves[index]
        if is_dense(leaf):
            coded = leaf == tf.cast(missing, leaf.dtype)
            leaves[index] = tf.where(coded, tf.cast(usual, leaf.dtype), leaf)
    return repacked(batch, tree.pack_sequence_as(x, leaves), y, weight)


def drawn_in(batch: "Batch", usual: tuple[tuple[int, Affine], ...]) -> "Batch":
    """Return a batch whose values lie in the band that is usual for their feature.

    Args:
        usual: pairs of the index of an array, inputs before targets, and its band: center +- scale.
    """
    x, y, weight = unpacked(batch)
    leaves, count = [*tree.flatten(x), *tree.flatten(y)], len(tree.flatten(x))
    for index, band in usual:
        leaf = leaves[index]
        if is_dense(leaf):
            low, high = np.subtract(band.center, band.scale), np.add(band.center, band.scale)
            low, high = tf.cast(low, leaf.dtype), tf.cast(high, leaf.dtype)
            leaves[index] = tf.clip_by_value(leaf, low, high)
    x, y = tree.pack_sequence_as(x, leaves[:count]), tree.pack_sequence_as(y, leaves[count:])
    return repacked(batch, x, y, weight)
