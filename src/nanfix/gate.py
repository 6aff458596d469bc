"""Fills and scales what goes into a model, and scales what comes out, with one traced graph for all numbers."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf
from keras import tree

from nanfix.changes import Affine, Power, TargetScaling
from nanfix.setup import Sample


class Gate:
    """Stands in front of and behind `model.call` as long as it is open.

    In:  x -> the fill of its feature where x is non-finite, for every input that is imputed; then
         x -> (x - center) / scale for every scalable input, or the power transform in the place of that.
    Out: f -> center + scale * f, whose gradient is divided by what a loss of the given degree makes of the scale, so
    that the weights see the gradient of the scaled targets while loss and metrics stay in the user's units.
    The numbers live in variables: a new scaling costs no new trace, but for a power transform.
    """

    def __init__(self, model: Any, sample: Sample):
        self._model = model
        self._powers: dict[int, Power] = {}
        self.is_open = False
        with model.distribute_strategy.scope():
            self._inputs = [
                (tf.Variable(tf.zeros(array.shape[1:][-1:])), tf.Variable(tf.ones(array.shape[1:][-1:]))) if scalable else None
                for array, scalable in zip(sample.inputs, sample.scalable, strict=True)
            ]
            self._fills = [
                (tf.Variable(tf.constant(False)), tf.Variable(tf.zeros(array.shape[1:][-1:]))) if imputable else None
                for array, imputable in zip(sample.inputs, sample.imputable or [False] * len(sample.inputs), strict=True)
            ]
            self._target = [tf.Variable(tf.constant(value)) for value in (0.0, 1.0, 1.0)]

    def open(self) -> None:
        self._model.call = self._call
        self.is_open = True

    def close(self) -> None:
        if self.is_open:
            vars(self._model).pop("call", None)
        self.is_open = False

    def fill(self, fills: Mapping[int, tuple[float, ...]]) -> None:
        """Fill non-finite cells with these numbers, one per feature, from the next step on; other inputs pass as they are."""
        for index, pair in enumerate(self._fills):
            if pair is None:
                continue
            imputing, fill = pair
            imputing.assign(index in fills)
            if index in fills:
                fill.assign(np.reshape(np.asarray(fills[index], "float32"), np.shape(fill)))

    def set(self, inputs: Mapping[int, Affine | Power], targets: TargetScaling | None) -> None:
        """Use these scalings from the next step on; what is not named is left as it is fed."""
        self._powers = {index: scaling for index, scaling in inputs.items() if isinstance(scaling, Power)}
        affine = {index: scaling for index, scaling in inputs.items() if isinstance(scaling, Affine)}
        for index, pair in enumerate(self._inputs):
            if pair is None:
                continue
            shape = tuple(int(size or 1) for size in pair[0].shape.as_list())
            width = int(np.prod(shape))
            scaling = affine.get(index, Affine((0.0,) * width, (1.0,) * width))
            pair[0].assign(np.reshape(np.asarray(scaling.center, "float32"), shape))
            pair[1].assign(np.reshape(np.asarray(scaling.scale, "float32"), shape))
        center, scale, degree = (targets.center, targets.scale, targets.degree) if targets else (0.0, 1.0, 1)
        for variable, value in zip(self._target, (center, scale, scale ** (1.0 - degree)), strict=True):
            variable.assign(value)

    def _filled(self, leaves: list[Any]) -> list[Any]:
        return [
            leaf
            if pair is None or leaf is None or not tf.as_dtype(leaf.dtype).is_floating
            else tf.where(pair[0] & ~tf.math.is_finite(leaf), tf.cast(pair[1], leaf.dtype), leaf)
            for leaf, pair in zip(leaves, self._fills, strict=True)
        ]

    def _scaled(self, index: int, leaf: Any) -> Any:
        pair = self._inputs[index]
        if pair is None or leaf is None:
            return leaf
        leaf = tf.cast(leaf, pair[0].dtype)
        return self._powers[index](leaf) if index in self._powers else (leaf - pair[0]) / pair[1]

    def _call(self, inputs, *args, **kwargs):
        if any((*self._inputs, *self._fills)):  # else a training step of the user's own may give call something else
            filled = self._filled(tree.flatten(inputs))
            leaves = [self._scaled(index, leaf) for index, leaf in enumerate(filled)]
            inputs = tree.pack_sequence_as(inputs, leaves)
        outputs = type(self._model).call(self._model, inputs, *args, **kwargs)
        if not tf.is_tensor(outputs) or not outputs.dtype.is_floating:
            return outputs
        center, scale, back = (tf.cast(variable.read_value(), outputs.dtype) for variable in self._target)

        # No tf.custom_gradient: TensorFlow registers one for good each time it is traced, and with it the whole graph.
        gradient_only = tf.where(tf.math.is_finite(outputs), outputs - tf.stop_gradient(outputs), 0)
        result: Any = tf.stop_gradient(center + scale * outputs) + back * gradient_only
        if hasattr(outputs, "_keras_logits"):  # Keras computes crossentropies from these
            result._keras_logits = outputs._keras_logits
        return result
