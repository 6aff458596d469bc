"""Scales what goes into and comes out of a model while a fix is trained, with one traced graph for all scalings."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf
from keras import tree

from nanfix.setup import Affine, Sample, TargetScaling


class Gate:
    """Stands in front of and behind `model.call` as long as it is open.

    In:  x -> (x - center) / scale for every scalable input.
    Out: f -> center + scale * f, whose gradient is divided by what a loss of the given degree makes of the scale, so
    that the weights see the gradient of the scaled targets while loss and metrics stay in the user's units.
    The numbers live in variables: a new scaling costs no new trace.
    """

    def __init__(self, model: Any, sample: Sample):
        self._model = model
        with model.distribute_strategy.scope():
            self._inputs = [
                (tf.Variable(tf.zeros(array.shape[1:][-1:])), tf.Variable(tf.ones(array.shape[1:][-1:]))) if scalable else None
                for array, scalable in zip(sample.inputs, sample.scalable, strict=True)
            ]
            self._target = [tf.Variable(tf.constant(value)) for value in (0.0, 1.0, 1.0)]

    def open(self) -> None:
        self._model.call = self._call

    def close(self) -> None:
        vars(self._model).pop("call", None)

    def set(self, inputs: Mapping[int, Affine], targets: TargetScaling | None) -> None:
        """Use these scalings from the next step on; what is not named is left as it is fed."""
        for index, pair in enumerate(self._inputs):
            if pair is None:
                continue
            shape = tuple(int(size or 1) for size in pair[0].shape.as_list())
            width = int(np.prod(shape))
            scaling = inputs.get(index, Affine((0.0,) * width, (1.0,) * width))
            pair[0].assign(np.reshape(np.asarray(scaling.center, "float32"), shape))
            pair[1].assign(np.reshape(np.asarray(scaling.scale, "float32"), shape))
        center, scale, degree = (targets.center, targets.scale, targets.degree) if targets else (0.0, 1.0, 1)
        for variable, value in zip(self._target, (center, scale, scale ** (1.0 - degree)), strict=True):
            variable.assign(value)

    def _call(self, inputs, *args, **kwargs):
        leaves = [
            leaf if pair is None or leaf is None else (tf.cast(leaf, pair[0].dtype) - pair[0]) / pair[1]
            for leaf, pair in zip(tree.flatten(inputs), self._inputs, strict=True)
        ]
        outputs = type(self._model).call(self._model, tree.pack_sequence_as(inputs, leaves), *args, **kwargs)
        if not tf.is_tensor(outputs) or not outputs.dtype.is_floating:
            return outputs
        center, scale, back = (tf.cast(variable.read_value(), outputs.dtype) for variable in self._target)

        @tf.custom_gradient
        def unscaled(f):
            return center + scale * f, lambda upstream: upstream * back

        result: Any = unscaled(outputs)
        if hasattr(outputs, "_keras_logits"):  # Keras computes crossentropies from these
            result._keras_logits = outputs._keras_logits
        return result
