"""Keep single TensorFlow operations of the user's model inside their domain, without
touching the user's source.

An operation that a guard names gets other inputs while its graph is traced: `Sqrt(x)` becomes
`Sqrt(max(x, e))`. The change is made in the graph itself, so the gradient is that of the guarded
expression, with and without XLA.
"""

from __future__ import annotations

import functools
import math
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf
from ml_dtypes import finfo

from nanfix.model.addresses import walk
from nanfix.model.operations import innermost_layer, kind_of
from nanfix.model.undo import override
from nanfix.model.user_code import innermost_line
from nanfix.private.objects import added_losses, all_layers
from nanfix.private.tensorflow import (
    called_with_operations,
    functions_run_eagerly,
    give_input,
    is_called_with_operations,
)
from nanfix.records.unsafe_operations import (
    ABOVE_LOWEST,
    ABOVE_MINUS_ONE,
    ABOVE_ONE,
    ABOVE_ZERO,
    AWAY_FROM_ZERO,
    BASE,
    BELOW_LIMIT,
    FINITE,
    INSIDE_ONE,
    REGULAR,
    UNSAFE_OPERATIONS,
    WITHIN_LIMITS,
    ZERO_OR_AWAY,
    Domain,
    UnsafeOperation,
)

if TYPE_CHECKING:
    from nanfix.changes.guards import Guard

STEPS = ("train_step", "test_step")


def _above_zero(x, e):
    return tf.maximum(x, _edge(x, e))


def _above_minus_one(x, e):
    return tf.maximum(x, -_below_one(x, e))


def _above_one(x, e):
    return tf.maximum(x, 2 - _below_one(x, e))


def _inside_one(x, e):
    one = _below_one(x, e)
    return tf.clip_by_value(x, -one, one)


def _below_limit(x, e):
    """exp(x) stays below 1 / e, and so far below the largest number that many of them
    can be added up.

    For an e of 0 it is at most 1 instead, relative to the largest along the last axis.
    """
    if e == 0:
        return x - tf.stop_gradient(tf.reduce_max(x, axis=-1, keepdims=True))
    largest = float(finfo(x.dtype.as_numpy_dtype).max)
    return tf.minimum(x, tf.constant(min(-math.log(e), 0.9 * math.log(largest)), x.dtype))


def _within_limits(x, e):
    """cosh(x) and sinh(x) stay as far below the largest number as exp(x) does."""
    return tf.maximum(_below_limit(x, e), -tf.constant(-math.log(e), x.dtype))


def _above_lowest(x, e):
    """-inf becomes a number so low that its share is 0 beside any other, and a row of
    nothing else is no row of NaN.
    """
    lowest = float(finfo(x.dtype.as_numpy_dtype).min)
    return tf.maximum(x, tf.constant(max(-1 / e, lowest / 4), x.dtype))


def _finite(x, e):
    """An infinity becomes a number so great that it masks all the same."""
    return -_above_lowest(-_above_lowest(x, e), e)


def _away_from_zero(x, e):
    if e == 0:
        # What is divided by it is 0, and so is the gradient.
        return tf.where(tf.equal(x, 0), tf.constant(math.inf, x.dtype), x)
    edge = _edge(x, e)
    return tf.where(tf.abs(x) < edge, tf.where(x < 0, -edge, edge), x)


def _zero_or_away(x, e):
    """DivNoNan by exactly 0 is 0 by the user's will."""
    return tf.where(tf.equal(x, 0), x, _away_from_zero(x, e))


def _regular(matrix, e):
    return matrix + tf.constant(e, matrix.dtype) * tf.eye(tf.shape(matrix)[-1], dtype=matrix.dtype)


def _base(base, e, exponent):
    """A base may be negative under a whole exponent, and zero too where that is at least 1."""
    known = tf.get_static_value(exponent)
    if known is not None and np.all((known == np.floor(known)) & (known >= 1)):
        return base
    whole = tf.where(exponent >= 1, base, _away_from_zero(base, e))
    return tf.where(tf.equal(exponent, tf.floor(exponent)), whole, _above_zero(base, e))


def _edge(x: tf.Tensor, e: float) -> tf.Tensor:
    """Return e, or so much more that 1 / e**2, which the gradient of a division holds,
    does not overflow.
    """
    return tf.constant(max(e, math.sqrt(float(finfo(x.dtype.as_numpy_dtype).tiny))), x.dtype)


def _below_one(x: tf.Tensor, e: float) -> tf.Tensor:
    """Return 1 - e, or the next number below 1 that the gradient can still tell from 1."""
    return tf.constant(1 - max(e, float(finfo(x.dtype.as_numpy_dtype).eps)), x.dtype)


# What keeps an operand x in a domain, e away from its edge; a base is given its exponent too.
IN_GRAPH: dict[Domain, Callable[..., tf.Tensor]] = {
    ABOVE_ZERO: _above_zero,
    ABOVE_MINUS_ONE: _above_minus_one,
    ABOVE_ONE: _above_one,
    INSIDE_ONE: _inside_one,
    BELOW_LIMIT: _below_limit,
    WITHIN_LIMITS: _within_limits,
    ABOVE_LOWEST: _above_lowest,
    FINITE: _finite,
    AWAY_FROM_ZERO: _away_from_zero,
    ZERO_OR_AWAY: _zero_or_away,
    REGULAR: _regular,
    BASE: _base,
}


Matches = Counter["Guard"]

# Where a guard holds a number at the edge of the domain, and elsewhere leaves it as it is.
EDGES = (ABOVE_ZERO, ABOVE_MINUS_ONE, ABOVE_ONE, INSIDE_ONE, BELOW_LIMIT, WITHIN_LIMITS)
_held: ContextVar[tuple[tf.Graph, list[tf.Tensor]] | None] = ContextVar("held", default=None)


@contextmanager
def shares_held() -> Iterator[list[tf.Tensor]]:
    """Collect of the graph that is traced in the `with` block, for each guarded operation outside
    of layers, a tensor: the share of its numbers that the guard holds at the edge of the domain.
    """
    shares: list[tf.Tensor] = []
    token = _held.set((tf.compat.v1.get_default_graph(), shares))
    try:
        yield shares
    finally:
        _held.reset(token)


def install(
    model: keras.Model, guards: Sequence[Guard], undo: ExitStack, matches: Matches | None = None
) -> None:
    """Put each guard round what computes its operation, until `undo` is closed: layers, or the
    steps of the whole model.

    Layers that share the guarded line have the class of the guarded one. `matches` counts the
    operations that were guarded.
    """
    matches = Counter() if matches is None else matches
    layers = dict(walk(model))
    for guard in guards:
        rewire = _Rewire(guard, None if guard.layer is None else layers[guard.layer], matches)
        if rewire.layer is None:
            for name in STEPS:
                _hook(model, name, rewire, undo)
        else:
            alike = [
                layer
                for layer in layers.values()
                if guard.source and type(layer) is type(rewire.layer)
            ]
            for layer in alike or [rewire.layer]:
                _hook(layer, "call", rewire, undo)
    install_on_call(model, guards, undo, matches)


def install_on_call(
    model: keras.Model, guards: Sequence[Guard], undo: ExitStack, matches: Matches
) -> None:
    """Put the guards that are in no layer round the model's own `call`, where that is
    written by the user.
    """
    if not type(model).call.__module__.startswith("keras."):
        for guard in guards:
            if guard.layer is None:
                _hook(model, "call", _Rewire(guard, None, matches), undo)


@contextmanager
def guarded(guard: Guard, layer: keras.Operation | None = None) -> Iterator[None]:
    """Guard the operation in every graph that is traced inside the `with` block;
    `layer` is the one of `guard.layer`.
    """
    with _active(_Rewire(guard, layer)):
        yield


@dataclass(frozen=True)
class _Rewire:
    """The callback that gives a guarded operation its new inputs when it is put into a graph."""

    guard: Guard
    layer: keras.Operation | None
    matches: Matches = field(default_factory=Counter, compare=False)

    def __call__(self, op_type, inputs, attrs, outputs, op_name=None, graph=None):
        if graph is None:
            return outputs
        unsafe = UNSAFE_OPERATIONS[self.guard.operation]
        if kind_of(op_type) == unsafe.kind and inputs[0].dtype.is_floating and self._named():
            self.matches[self.guard] += 1
            operation = graph.get_operation_by_name(op_name)
            with graph.as_default():
                kept = _kept(unsafe, operation.inputs, self.guard.epsilon)
                for index, tensor in kept.items():
                    self._note_share(graph, operation.inputs[index], tensor)
            for index, tensor in kept.items():
                give_input(operation, index, tensor)
        return outputs  # the next callback is called with these

    def _note_share(self, graph: tf.Graph, given: tf.Tensor, kept: tf.Tensor) -> None:
        """Note the share that is held, where somebody collects it and it comes out of the graph."""
        collecting, domain = _held.get(), UNSAFE_OPERATIONS[self.guard.operation].domain
        if collecting is None or self.layer is not None or domain not in EDGES:
            return
        if collecting[0] is graph and self.guard.epsilon:
            moved = tf.cast(tf.not_equal(given, kept), "float32")
            collecting[1].append(tf.reduce_mean(moved))

    def _named(self) -> bool:
        """Say whether the operation that is being created is the one that the guard names."""
        frame = sys._getframe(2)
        if self.guard.source is not None:
            line, code = innermost_line(frame), self.guard.code
            return line is not None and (
                line.source == self.guard.source if code is None else line.is_that_of(code)
            )
        return innermost_layer(frame) is self.layer


def _kept(
    operation: UnsafeOperation, inputs: Sequence[tf.Tensor], epsilon: float
) -> dict[int, tf.Tensor]:
    """Return which inputs of an operation are kept in its domain, and what they become."""
    index, domain = operation.operand, operation.domain
    exponent = inputs[1:] if domain is BASE else ()
    # The infinite factor may be either.
    indices = range(len(inputs)) if domain is FINITE else (index,)
    return {index: IN_GRAPH[domain](inputs[index], epsilon, *exponent) for index in indices}


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
                with functions_run_eagerly(
                    True
                ):  # what has been traced before would be taken as it is
                    return function(*args, **kwargs)
            # It has control flow, which TensorFlow has to rewrite.
            except tf.errors.OperatorNotAllowedInGraphError:
                anew: Any = (
                    tf.function(function.python_function)
                    if hasattr(function, "python_function")
                    else function
                )
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
        with functions_run_eagerly(False):
            outputs, added = graph(*args, **kwargs)
        for layer, losses in zip(_with_sublayers(owner), added, strict=True):
            added_losses(layer).extend(losses)
        return outputs

    return run


def _with_sublayers(layer: keras.Operation) -> list[keras.Layer]:
    return all_layers(layer) if isinstance(layer, keras.Layer) else []
