"""Fills and scales what goes into a model, and scales what comes out, with one traced
graph for all numbers.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf
from keras import tree

from nanfix.changes.maps import Affine, Power, TargetScaling
from nanfix.model.addresses import input_names
from nanfix.model.outputs import OUTPUT
from nanfix.model.run import Sample
from nanfix.model.undo import override, put
from nanfix.private.objects import hand_on_logits

if TYPE_CHECKING:
    import keras

UNSCALED = TargetScaling((0.0,), (1.0,), 1)


class Gate:
    """Stands in front of and behind `model.call` as long as it is open.

    In:  x -> the fill of its feature where x is non-finite or stands for a missing value, for every
         input that is imputed; then
         x -> (x - center) / scale for every scalable input, or the power transform instead.
    Out: f -> its activation, where one is to be computed, then, for each output that is named,
         f -> center + scale * f, whose gradient is divided by what a loss of the given degree makes
         of the scale, so that the weights see the gradient of the scaled targets while loss and
         metrics stay in the user's units.

    The numbers live in variables: a new scaling costs no new trace, but for a power transform.
    """

    def __init__(
        self,
        model: "keras.Model",
        sample: Sample,
        outputs: Sequence[str | None] = (OUTPUT,),
        widths: Sequence[int] = (1,),
    ):
        """Args:
        outputs: the names of the outputs in their order, None for one that takes up no scaling.
        widths: how many columns of each can be scaled by themselves.
        """
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
            self._targets = [
                (name, [tf.Variable(tf.broadcast_to(n, [width])) for n in UNSCALED.factors])
                for name, width in zip(outputs, widths, strict=True)
            ]

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

    def set(
        self,
        inputs: Mapping[str, Affine | Power],
        targets: Mapping[str, TargetScaling] = MappingProxyType({}),
    ) -> None:
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
        for name, variables in self._targets:
            factors = targets.get(name or "", UNSCALED).factors
            for variable, numbers in zip(variables, factors, strict=True):
                variable.assign(tf.broadcast_to(numbers, variable.shape))

    def _filled(self, name: str | None, leaf: tf.Tensor | None) -> tf.Tensor | None:
        if name not in self._fills or leaf is None or not tf.as_dtype(leaf.dtype).is_floating:
            return leaf
        fill, missing, imputing = self._fills[name]
        return tf.where(imputing & _holes(leaf, missing), tf.cast(fill, leaf.dtype), leaf)

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
        ends = tree.flatten(outputs)
        if len(ends) != len(self._targets):
            return outputs
        pairs = zip(ends, self._targets, strict=True)
        scaled = [end if name is None else self._scaled_back(end, by) for end, (name, by) in pairs]
        return tree.pack_sequence_as(outputs, scaled)

    def _scaled_back(self, output: Any, factors: "list[tf.Variable]") -> Any:
        if not tf.is_tensor(output) or not output.dtype.is_floating:
            return output
        output = output if self._activation is None else self._activation(output)
        center, scale, back = (tf.cast(each.read_value(), output.dtype) for each in factors)

        # No tf.custom_gradient: TensorFlow registers one for good each time it is traced, and with
        # it the whole graph.
        gradient_only = tf.where(tf.math.is_finite(output), output - tf.stop_gradient(output), 0)
        result: Any = tf.stop_gradient(center + scale * output) + back * gradient_only
        hand_on_logits(output, result)
        return result


def stand_around_call(
    model: "keras.Model",
    inputs: "Mapping[str, Sequence[Callable[[Any], Any]]]",
    outputs: Mapping[int, TargetScaling],
    undo: ExitStack,
) -> None:
    """Compute these, one after the other, of each input that the model's own `call` is given from
    now on, and scale back the outputs of these numbers, until `undo` is closed.
    """
    inner = model.call

    @functools.wraps(inner)
    def call(given, *args, **kwargs):
        leaves = tree.flatten(given)
        for at, name in enumerate(input_names(model, given)):
            for computed in inputs.get(name or "", ()):
                leaves[at] = computed(leaves[at])
        made = inner(tree.pack_sequence_as(given, leaves), *args, **kwargs)
        ends = tree.flatten(made)
        for at, scaling in outputs.items():
            center, scale, _ = (tf.cast(each, ends[at].dtype) for each in scaling.factors)
            ends[at] = center + scale * ends[at]
        return tree.pack_sequence_as(made, ends)

    override(undo, model, "call", call)


def filling(fill: Sequence[float], missing: Sequence[float]) -> Callable[[tf.Tensor], tf.Tensor]:
    """Return what fills holes as `Gate.fill` does."""

    def filled(leaf: tf.Tensor) -> tf.Tensor:
        if not tf.as_dtype(leaf.dtype).is_floating:
            return leaf
        return tf.where(_holes(leaf, missing), tf.constant(fill, leaf.dtype), leaf)

    return filled


def scaling(change: Affine | Power) -> Callable[[tf.Tensor], Any]:
    """Return what scales as `Gate.set` has it done: in float32, whatever the model computes in."""
    return lambda leaf: change(tf.cast(leaf, "float32"))


def _holes(leaf: tf.Tensor, missing: Any) -> tf.Tensor:
    return ~tf.math.is_finite(leaf) | (leaf == tf.cast(missing, leaf.dtype))


def _pair(array: np.ndarray, number: float, other: float) -> tuple[tf.Variable, tf.Variable]:
    """Return variables for a number per feature of `array`, and for another of them."""
    per_feature = tf.zeros(array.shape[1:][-1:])
    return tf.Variable(per_feature + number), tf.Variable(per_feature + other)
