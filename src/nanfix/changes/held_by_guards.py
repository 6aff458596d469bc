"""What guards hold at the edge of a domain, in the graphs of those who look at a training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

import tensorflow as tf

from nanfix.records.domains import (
    ABOVE_MINUS_ONE,
    ABOVE_ONE,
    ABOVE_ZERO,
    BELOW_LIMIT,
    INSIDE_ONE,
    WITHIN_LIMITS,
)
from nanfix.records.unsafe_operations import UNSAFE_OPERATIONS

if TYPE_CHECKING:
    from nanfix.changes.guards import Guard

# Where a guard holds a number at the edge of the domain, and elsewhere leaves it as it is.
EDGES = (ABOVE_ZERO, ABOVE_MINUS_ONE, ABOVE_ONE, INSIDE_ONE, BELOW_LIMIT, WITHIN_LIMITS)
_let_through: ContextVar[bool] = ContextVar("let_through", default=False)
# Of a guarded operation the share of its numbers that is held, and whether one of them is a weight.
Held = tuple[tf.Tensor, tf.Tensor]
_held: ContextVar[tuple[tf.Graph, list[Held]] | None] = ContextVar("held", default=None)


@contextmanager
def shares_held() -> Iterator[list[Held]]:
    """Collect of the graph that is traced in the `with` block, for each guarded operation, the
    share of its numbers that the guard holds at the edge of the domain, 0 of one in a layer; and
    whether it holds there what is computed of weights alone, and has gone beyond the edge.
    """
    shares: list[Held] = []
    token = _held.set((tf.compat.v1.get_default_graph(), shares))
    try:
        yield shares
    finally:
        _held.reset(token)


@contextmanager
def gradients_let_through() -> Iterator[None]:
    """Give what a guard moves, in every graph that is traced in the `with` block, the gradient that
    it would have inside the domain, so that a gradient of 0 is none that the guard holds back.
    """
    token = _let_through.set(True)
    try:
        yield
    finally:
        _let_through.reset(token)


def watched(guard: Guard, given: tf.Tensor, kept: tf.Tensor) -> tf.Tensor:
    """Return what a guarded operation is to be given, which is what is kept of it, and note what
    the guard holds, where somebody collects that and it comes out of the graph.
    """
    collecting, domain = _held.get(), UNSAFE_OPERATIONS[guard.operation].domain
    graph, held = collecting or (None, [])
    if graph is given.graph and domain in EDGES and guard.epsilon:
        share = tf.reduce_mean(tf.cast(tf.not_equal(given, kept), "float32"))
        beyond = tf.reduce_any(tf.abs(kept - given) > guard.epsilon)
        share = share if guard.layer is None else tf.zeros_like(share)
        held.append((share, beyond if _of_weights(given) else tf.zeros_like(beyond)))
    return _passing(given, kept) if _let_through.get() else kept


def _of_weights(tensor: tf.Tensor) -> bool:
    """Say whether a tensor of a graph is computed of variables, and of nothing that is given to the
    graph or drawn in it.
    """
    found, seen = False, set()
    ahead = [tensor.op]
    while ahead:
        operation = ahead.pop()
        if operation.name in seen:
            continue
        seen.add(operation.name)
        if operation.type == "ReadVariableOp":
            if not operation.outputs[0].dtype.is_floating:
                return False  # of random numbers, the seed
            found = True
        elif operation.type == "Placeholder" or _draws(operation):
            return False
        else:
            ahead += [each.op for each in operation.inputs]
    return found


def _draws(operation: tf.Operation) -> bool:
    """Say whether an operation gives other numbers each time that it is run."""
    return operation.op_def.is_stateful or "Random" in operation.type


def _passing(given: tf.Tensor, kept: tf.Tensor) -> tf.Tensor:
    """Return what a guard makes of a tensor, with a gradient that is given on unchanged; 1 instead
    of the infinity by which it lets a division be 0, of which no gradient comes.
    """
    if given.shape != kept.shape or kept.dtype.is_complex:
        return kept  # numbers stand there that were not given: there is nothing to give it to
    inside = tf.where(tf.math.is_inf(kept), tf.ones_like(kept), kept)
    return tf.custom_gradient(lambda _: (inside, lambda upstream: upstream))(given)
