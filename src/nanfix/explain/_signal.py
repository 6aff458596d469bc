"""How large the numbers are that an untrained model makes of real rows."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import tensorflow as tf
from keras import tree

from nanfix.data.arrays import Leaf, is_dense, take_rows
from nanfix.explain._batch_changes import input_moments, of_unit_scale
from nanfix.explain.microscope import NOT_EAGERLY
from nanfix.explain.oddities import usual
from nanfix.model.faults import is_raised_by_nanfix
from nanfix.model.operations import Operation, traced
from nanfix.model.run import Run
from nanfix.model.snapshot import restore
from nanfix.private.tensorflow import functions_run_eagerly
from nanfix.recorder.recording import Recording

ROWS = 32
FEWEST_CALLS, RISEN = 3, 10.0  # calls of a layer that feeds itself, and how far numbers rise there


@dataclass(frozen=True)
class Loop:
    """A layer that is called many times for the same rows, with numbers that grow from call to
    call: the root mean square of what it gives at the first of these `times`, and at the last.
    """

    layer: str
    times: int
    first: float
    last: float

    def __str__(self):
        return (
            f"layer {self.layer} is called {self.times} times in a row, and its numbers grow from "
            f"{self.first:.2g} to {self.last:.2g}"
        )


@dataclass(frozen=True)
class Signal:
    """For each layer the root mean square of what it gives for rows of unit scale; and the `loop`
    in which numbers grow, if there is one: of several layers in it the last.
    """

    sizes: Mapping[str, float] = field(default_factory=dict)
    loop: Loop | None = None


def signal_at_the_start(run: Run, recording: Recording) -> Signal:
    """Return what the model makes of rows of unit scale, with the initial weights; nothing where it
    cannot be run eagerly. Leaves the newest snapshot.
    """
    restore(recording.initial)
    found = signal_of(run, rows_of_unit_scale(run))
    restore(recording.newest)
    return found


def rows_of_unit_scale(run: Run) -> Any:
    """Return the inputs of some rows, of unit scale."""
    given = tree.map_structure(_whole, take_rows(run.sample.x, slice(0, ROWS)))
    rows, *_ = of_unit_scale((given, None), inputs=input_moments(usual(run.sample)))
    return rows


def signal_of(run: Run, rows: Any) -> Signal:
    """Return what the model makes of these rows; nothing where it cannot be run eagerly."""
    sizes: dict[str, float] = {}
    weights: dict[str, int] = {}  # the first weight that a layer reads, in each of its calls
    calls: dict[str, list[float]] = {}  # what it gave in those that have ended

    def visit(operation: Operation) -> None:
        if operation.layer is None:
            return
        name = operation.layer.name
        if operation.kind == "ReadVariableOp":
            read = id(operation.inputs[0])
            if weights.setdefault(name, read) == read and name in sizes:
                calls.setdefault(name, []).append(sizes[name])
            return
        for size in (each for each in map(size_of, operation.outputs) if each is not None):
            if size == np.inf and max(sizes.values(), default=0.0) <= RISEN:
                raise _OutOfDomain
            sizes[name] = size

    try:
        if not passed_eagerly(run, rows, visit):
            return Signal()
    except _OutOfDomain:
        pass  # what comes behind it says nothing of the weights
    loops = [_loop(name, [*ended, sizes[name]]) for name, ended in calls.items()]
    return Signal(sizes, next((loop for loop in reversed(loops) if loop is not None), None))


def passed_eagerly(run: Run, rows: Any, visit: Callable[[Operation], None]) -> bool:
    """Let `visit` see every operation of a forward pass of these rows; return whether it could be
    run eagerly to its end.
    """
    try:
        with functions_run_eagerly(True), traced(visit):
            run.model(rows, training=False)
    except NOT_EAGERLY as refused:
        if is_raised_by_nanfix(refused):
            raise
        return False
    return True


def size_of(tensor: Any) -> float | None:
    """Return the root mean square of a tensor with dimensions, inf where it is not finite; None of
    another.
    """
    if not (getattr(tensor, "dtype", tf.int32).is_floating and tensor.shape.rank):
        return None
    size = float(np.sqrt(np.mean(np.square(np.asarray(tensor).astype("float64")))))
    return size if np.isfinite(size) else np.inf


class _OutOfDomain(Exception):
    """Numbers of ordinary size made one that is not finite: nothing has grown there."""


def _loop(name: str, calls: list[float]) -> Loop | None:
    first = next((size for size in calls if size > 0.0), 0.0)
    if len(calls) < FEWEST_CALLS or not 0.0 < first < np.inf or calls[-1] <= RISEN * first:
        return None
    return Loop(name, len(calls), first, calls[-1])


def _whole(leaf: Leaf) -> Leaf:
    if leaf is None or not is_dense(leaf):
        return leaf
    tensor = tf.convert_to_tensor(leaf)
    if not tensor.dtype.is_floating:
        return tensor
    return tf.where(tf.math.is_finite(tensor), tensor, tf.zeros_like(tensor))
