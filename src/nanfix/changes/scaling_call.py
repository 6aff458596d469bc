"""Fills and scales what goes into a model, and scales what comes out, with one traced
graph for all numbers.
"""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf
from keras import tree

from nanfix.changes.maps import Affine, Power, TargetScaling
from nanfix.model.addresses import input_names
from nanfix.model.run import Sample
from nanfix.model.undo import override, put
from nanfix.private.objects import hand_on_logits

if TYPE_CHECKING:
    import keras


class Gate:
    """Stands in front of and behind `model.call` as long as it is open.

    In:  x -> the fill of its feature where x is non-finite or stands for a missing value, for every
         input that is imputed; then
         x -> (x - center) / scale for every scalable input, or the power transform instead.
    Out: f -> its activation, where one is to be computed, then
         f -> center + scale * f, whose gradient is divided by what a loss of the given degree makes
         of the scale, so that the weights see the gradient of the scaled targets while loss and
         metrics stay in the user's units.

    The numbers live in variables: a new scaling costs no new trace, but for a power transform.
    """

    def __init__(self, model: "keras.Model", sample: Sample):
        self._model = model
        self._inner = model.call
        self._activation: Callable[[Any], Any] | None = None
        self._powers: dict[str, Power] = {}
        self._opened = ExitStack()
        self.is_open = False
        with model.distribute_strategy.scope():
            self._inputs = {
                name: _pair(array, 0.0, 1.0)
                for name, array in sample.named(sample.scalable).items()
            }
            self._fills = {
                name: (*_pair(array, 0.0, 0.0), tf.Variable(tf.constant(False)))
                for name, array in sample.named(sample.imputable).items()
            }
            self._target = [tf.Variable(tf.constant(value)) for value in (0.0, 1.0, 1.0)]

    def open(self) -> None:
        """Stand in the place of what the model's `call` is now, be it its class' or its
        user's own.
        """
        self._inner = self._model.call
        override(self._opened, self._model, "call", self._call)
        self.is_open = True

    def close(self) -> None:
        self._opened.close()
        self.is_open = False

    def activate(self, function: Callable[[Any], Any], undo: ExitStack) -> None:
        """Compute this function of what the model gives, a single tensor, until `undo` is closed;
        what was traced stays as it was.
        """
        put(undo, self, "_activation", function)

    def fill(
        self,
        fills: Mapping[str, tuple[float, ...]],
        missing_values: Mapping[str, tuple[float, ...]] = MappingProxyType({}),
    ) -> None:
        """Fill non-finite cells, and those that hold the missing value of their feature, with these
        numbers, one per feature, from the next step on; other inputs pass as they are.
        """
        for name, (fill, missing, imputing) in self._fills.items():
            imputing.assign(name in fills)
            if name in fills:
                numbers = (fills[name], missing_values.get(name, fills[name]))
                for variable, given in zip((fill, missing), numbers, strict=True):
                    variable.assign(np.reshape(np.asarray(given, "float32"), np.shape(fill)))

    def set(self, inputs: Mapping[str, Affine | Power], targets: TargetScaling | None) -> None:
        """Use these scalings from the next step on; what is not named is left as it is fed."""
        self._powers = {
            name: scaling for name, scaling in inputs.items() if isinstance(scaling, Power)
        }
        affine = {name: scaling for name, scaling in inputs.items() if isinstance(scaling, Affine)}
        for name, (center, scale) in self._inputs.items():
            shape = tuple(int(size or 1) for size in center.shape.as_list())
            width = int(np.prod(shape))
            scaling = affine.get(name, Affine((0.0,) * width, (1.0,) * width))
            center.assign(np.reshape(np.asarray(scaling.center, "float32"), shape))
            scale.assign(np.reshape(np.asarray(scaling.scale, "float32"), shape))
        center, scale, degree = (
            (targets.center, targets.scale, targets.degree) if targets else (0.0, 1.0, 1)
        )
        for variable, value in zip(
            self._target, (center, scale, scale ** (1.0 - degree)), strict=True
        ):
            variable.assign(value)

    def _filled(self, name: str | None, leaf: tf.Tensor | None) -> tf.Tensor | None:
        if name not in self._fills or leaf is None or not tf.as_dtype(leaf.dtype).is_floating:
            return leaf
        fill, missing, imputing = self._fills[name]
        hole = ~tf.math.is_finite(leaf) | (leaf == tf.cast(missing, leaf.dtype))
        return tf.where(imputing & hole, tf.cast(fill, leaf.dtype), leaf)

    def _scaled(self, name: str | None, leaf: tf.Tensor | None) -> Any:
        if name not in self._inputs or leaf is None:
            return leaf
        center, scale = self._inputs[name]
        leaf = tf.cast(leaf, center.dtype)
        return self._powers[name](leaf) if name in self._powers else (leaf - center) / scale

    def _call(self, inputs, *args, **kwargs):
        # Else a training step of the user's own may give call something else.
        if self._inputs or self._fills:
            named = zip(input_names(self._model, inputs), tree.flatten(inputs), strict=True)
            leaves = [self._scaled(name, self._filled(name, leaf)) for name, leaf in named]
            inputs = tree.pack_sequence_as(inputs, leaves)
        outputs = self._inner(inputs, *args, **kwargs)
        if not tf.is_tensor(outputs) or not outputs.dtype.is_floating:
            return outputs
        outputs = outputs if self._activation is None else self._activation(outputs)
        center, scale, back = (
            tf.cast(variable.read_value(), outputs.dtype) for variable in self._target
        )

        # No tf.custom_gradient: TensorFlow registers one for good each time it is traced, and with
        # it the whole graph.
        gradient_only = tf.where(tf.math.is_finite(outputs), outputs - tf.stop_gradient(outputs), 0)
        result: Any = tf.stop_gradient(center + scale * outputs) + back * gradient_only
        hand_on_logits(outputs, result)
        return result


def _pair(array: np.ndarray, number: float, other: float) -> tuple[tf.Variable, tf.Variable]:
    """Return variables for a number per feature of `array`, and for another of them."""
    per_feature = tf.zeros(array.shape[1:][-1:])
    return tf.Variable(per_feature + number), tf.Variable(per_feature + other)
