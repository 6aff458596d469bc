"""Keep single TensorFlow operations of the user's model inside their domain, without touching the user's source.

An operation that a guard names gets other inputs while its graph is traced: `Sqrt(x)` becomes `Sqrt(max(x, e))`. The
change is made in the graph itself, so the gradient is that of the guarded expression, with and without XLA.
"""

import functools
import math
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from ml_dtypes import finfo

from nanfix.frames import innermost_line
from nanfix.kinds.guards import Guard
from nanfix.optrace import functions_compiled, functions_inlined, innermost_layer, kind_of
from nanfix.private.objects import added_losses, all_layers
from nanfix.private.tensorflow import called_with_operations, give_input, is_called_with_operations
from nanfix.run import walk
from nanfix.undo import override

STEPS = ("train_step", "test_step")


def _floor(inputs, e):
    return [tf.maximum(inputs[0], _edge(inputs[0], e))]


def _log1p(inputs, e):
    return [tf.maximum(inputs[0], -_below_one(inputs[0], e))]


def _acosh(inputs, e):
    return [tf.maximum(inputs[0], 2 - _below_one(inputs[0], e))]


def _inside_one(inputs, e):
    one = _below_one(inputs[0], e)
    return [tf.clip_by_value(inputs[0], -one, one)]


def _ceiling(inputs, e):
    """exp(x) stays below 1 / e, and so far below the largest number that many of them can be added up.

    For an e of 0 it is at most 1 instead, relative to the largest along the last axis.
    """
    if e == 0:
        return [inputs[0] - tf.stop_gradient(tf.reduce_max(inputs[0], axis=-1, keepdims=True))]
    largest = float(finfo(inputs[0].dtype.as_numpy_dtype).max)
    return [tf.minimum(inputs[0], tf.constant(min(-math.log(e), 0.9 * math.log(largest)), inputs[0].dtype))]


def _denominator(inputs, e):
    return [inputs[0], _away_from_zero(inputs[1], e)]


def _nonzero_denominator(inputs, e):
    """DivNoNan by exactly 0 is 0 by the user's will."""
    return [inputs[0], tf.where(tf.equal(inputs[1], 0), inputs[1], _away_from_zero(inputs[1], e))]


def _reciprocal(inputs, e):
    return [_away_from_zero(inputs[0], e)]


def _power(inputs, e):
    """A base may be negative under a whole exponent, and zero too where that is at least 1."""
    base, exponent = inputs
    known = tf.get_static_value(exponent)
    if known is not None and np.all((known == np.floor(known)) & (known >= 1)):
        return inputs
    whole = tf.where(exponent >= 1, base, _away_from_zero(base, e))
    return [tf.where(tf.equal(exponent, tf.floor(exponent)), whole, tf.maximum(base, _edge(base, e))), exponent]


def _edge(x: Any, e: float) -> Any:
    """Return e, or so much more that 1 / e**2, which the gradient of a division holds, does not overflow."""
    return tf.constant(max(e, math.sqrt(float(finfo(x.dtype.as_numpy_dtype).tiny))), x.dtype)


def _away_from_zero(x: Any, e: float) -> Any:
    if e == 0:
        return tf.where(tf.equal(x, 0), tf.constant(math.inf, x.dtype), x)  # what is divided by it is 0, and so is the gradient
    edge = _edge(x, e)
    return tf.where(tf.abs(x) < edge, tf.where(x < 0, -edge, edge), x)


def _below_one(x: Any, e: float) -> Any:
    """Return 1 - e, or the next number below 1 that the gradient can still tell from 1."""
    return tf.constant(1 - max(e, float(finfo(x.dtype.as_numpy_dtype).eps)), x.dtype)


def _both_sides(inputs, e):
    """cosh(x) and sinh(x) stay as far below the largest number as exp(x) does."""
    (high,) = _ceiling(inputs, e)
    return [tf.maximum(high, -tf.constant(-math.log(e), high.dtype))]


def _finite_floor(inputs, e):
    """-inf becomes a number so low that its share is 0 beside any other, and a row of nothing else is no row of NaN."""
    lowest = float(finfo(inputs[0].dtype.as_numpy_dtype).min)
    return [tf.maximum(inputs[0], tf.constant(max(-1 / e, lowest / 4), inputs[0].dtype))]


def _second_floor(inputs, e):
    return [inputs[0], tf.maximum(inputs[1], _edge(inputs[1], e))]


def _second_log1p(inputs, e):
    return [inputs[0], tf.maximum(inputs[1], -_below_one(inputs[1], e))]


def _jitter(inputs, e):
    (matrix,) = inputs
    return [matrix + tf.constant(e, matrix.dtype) * tf.eye(tf.shape(matrix)[-1], dtype=matrix.dtype)]


GUARDS: dict[str, Callable[[Sequence[Any], float], Sequence[Any]]] = {
    "Sqrt": _floor,
    "Rsqrt": _floor,
    "Log": _floor,
    "Log1p": _log1p,
    "RealDiv": _denominator,
    "DivNoNan": _nonzero_denominator,
    "Reciprocal": _reciprocal,
    "Exp": _ceiling,
    "Expm1": _ceiling,
    "Cosh": _both_sides,
    "Sinh": _both_sides,
    "Softmax": _finite_floor,
    "LogSoftmax": _finite_floor,
    "Xlogy": _second_floor,
    "Xlog1py": _second_log1p,
    "Lgamma": _floor,
    "Digamma": _floor,
    "Erfinv": _inside_one,
    "Atan2": _denominator,
    "FloorMod": _denominator,
    "Cholesky": _jitter,
    "MatrixInverse": _jitter,
    "Pow": _power,
    "Acos": _inside_one,
    "Asin": _inside_one,
    "Acosh": _acosh,
    "Atanh": _inside_one,
}


Matches = Counter[Guard]


def install(model: Any, guards: Sequence[Guard], undo: ExitStack, matches: Matches | None = None) -> None:
    """Put each guard round what computes its operation, until `undo` is closed: layers, or the steps of the whole model.

    Layers that share the guarded line have the class of the guarded one. `matches` counts the operations that were guarded.
    """
    matches = Counter() if matches is None else matches
    layers = dict(walk(model))
    for guard in guards:
        rewire = _Rewire(guard, None if guard.layer is None else layers[guard.layer], matches)
        if rewire.layer is None:
            for name in STEPS:
                _hook(model, name, rewire, undo)
        else:
            alike = [layer for layer in layers.values() if guard.source and type(layer) is type(rewire.layer)]
            for layer in alike or [rewire.layer]:
                _hook(layer, "call", rewire, undo)
    install_on_call(model, guards, undo, matches)


def install_on_call(model: Any, guards: Sequence[Guard], undo: ExitStack, matches: Matches) -> None:
    """Put the guards that are in no layer round the model's own `call`, where that is written by the user."""
    if not type(model).call.__module__.startswith("keras."):
        for guard in guards:
            if guard.layer is None:
                _hook(model, "call", _Rewire(guard, None, matches), undo)


@contextmanager
def guarded(guard: Guard, layer: Any = None) -> Iterator[None]:
    """Guard the operation in every graph that is traced inside the `with` block; `layer` is the one of `guard.layer`."""
    with _active(_Rewire(guard, layer)):
        yield


@dataclass(frozen=True)
class _Rewire:
    """The callback that gives a guarded operation its new inputs when it is put into a graph."""

    guard: Guard
    layer: Any
    matches: Matches = field(default_factory=Counter, compare=False)

    def __call__(self, op_type, inputs, attrs, outputs, op_name=None, graph=None):
        if graph is None:
            return outputs
        if kind_of(op_type) == self.guard.operation and inputs[0].dtype.is_floating and self._named():
            self.matches[self.guard] += 1
            operation = graph.get_operation_by_name(op_name)
            with graph.as_default():
                changed = GUARDS[self.guard.operation](operation.inputs, self.guard.epsilon)
            for index, tensor in enumerate(changed):
                give_input(operation, index, tensor)
        return outputs  # the next callback is called with these

    def _named(self) -> bool:
        """Say whether the operation that is being created is the one that the guard names."""
        frame = sys._getframe(2)
        if self.guard.source is not None:
            line, code = innermost_line(frame), self.guard.code
            return line is not None and (line.source == self.guard.source if code is None else line.is_that_of(code))
        return innermost_layer(frame) is self.layer


@contextmanager
def _active(rewire: _Rewire) -> Iterator[None]:
    if is_called_with_operations(rewire):  # a guarded step has called a guarded layer
        yield
        return
    with called_with_operations(rewire):
        yield


def _hook(owner: Any, name: str, rewire: _Rewire, undo: ExitStack) -> None:
    function = getattr(owner, name)

    def in_graph(*args, **kwargs):
        with _active(rewire):
            try:
                with functions_inlined():  # what has been traced before would be taken as it is
                    return function(*args, **kwargs)
            except tf.errors.OperatorNotAllowedInGraphError:  # it has control flow, which TensorFlow has to rewrite
                anew: Any = tf.function(function.python_function) if hasattr(function, "python_function") else function
                return anew(*args, **kwargs)

    compiled = _compiled(owner, in_graph) if name == "call" else function

    @functools.wraps(function)
    def either(*args, **kwargs):
        return compiled(*args, **kwargs) if tf.executing_eagerly() else in_graph(*args, **kwargs)

    override(undo, owner, name, either)


def _compiled(owner: Any, call: Callable[..., Any]) -> Callable[..., Any]:
    """Return `call` as a graph of its own, since nothing can be replaced in eager execution.

    Losses that layers add on the way are handed out of the graph.
    """

    def with_losses(*args, **kwargs):
        layers = _with_sublayers(owner)
        before = [len(added_losses(layer)) for layer in layers]
        outputs = call(*args, **kwargs)
        added = [added_losses(layer)[count:] for layer, count in zip(layers, before, strict=True)]
        for layer, count in zip(layers, before, strict=True):
            del added_losses(layer)[count:]
        return outputs, added

    graph: Any = tf.function(with_losses, reduce_retracing=True, autograph=False)

    def run(*args, **kwargs):
        with functions_compiled():
            outputs, added = graph(*args, **kwargs)
        for layer, losses in zip(_with_sublayers(owner), added, strict=True):
            added_losses(layer).extend(losses)
        return outputs

    return run


def _with_sublayers(layer: keras.Layer) -> list[Any]:
    return all_layers(layer) if isinstance(layer, keras.Layer) else []
