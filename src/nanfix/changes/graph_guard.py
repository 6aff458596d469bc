"""Keep single TensorFlow operations of the user's model inside their domain, without
touching the user's source.

An operation that a guard names gets other inputs while its graph is traced: `Sqrt(x)` becomes
`Sqrt(max(x, e))`. The change is made in the graph itself, so the gradient is that of the guarded
expression, with and without XLA. A step that is looked at runs eagerly: there the operation is
given them as it is executed, so that what fails behind it comes to light.
"""

from __future__ import annotations

import functools
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import keras
import tensorflow as tf

from nanfix.changes import nonfinite_constants
from nanfix.changes.differences import stable_difference
from nanfix.changes.domains_in_graph import kept, operands
from nanfix.changes.exponentials import factor_times_log, stable_form
from nanfix.changes.held_by_guards import watched
from nanfix.changes.quotients import stable_quotient
from nanfix.model.addresses import walk
from nanfix.model.operations import innermost_layer, is_float, kind_of
from nanfix.model.undo import override
from nanfix.model.user_code import innermost_line
from nanfix.private.objects import added_losses, all_layers
from nanfix.private.tensorflow import (
    called_with_operations,
    executed_by,
    functions_are_to_run_eagerly,
    functions_run_eagerly,
    give_input,
    is_called_with_operations,
)
from nanfix.records.unsafe_operations import (
    CONSTANT,
    DIFFERENCES,
    LOG_OF_EXPONENTIALS,
    SHARES_OF_EXPONENTIALS,
    UNSAFE_OPERATIONS,
)

if TYPE_CHECKING:
    from nanfix.changes.guards import Guard

# Formulas of two operands: the operation behind them, and what computes it.
OF_TWO = {
    SHARES_OF_EXPONENTIALS: ("RealDiv", stable_quotient),
    DIFFERENCES: ("Sub", stable_difference),
}
STABLE_FORMS = (LOG_OF_EXPONENTIALS, *OF_TWO)
STEPS = ("train_step", "test_step")


Matches = Counter["Guard"]


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
    # By graph, the names of the operations that it has guarded there.
    done: WeakKeyDictionary[tf.Graph, set[str]] = field(
        default_factory=WeakKeyDictionary, compare=False
    )

    def __call__(self, op_type, inputs, attrs, outputs, op_name=None, graph=None):
        if graph is None:
            return outputs
        if self.guard.operation == LOG_OF_EXPONENTIALS:
            return self._stable(kind_of(op_type), outputs, op_name, graph)
        if self.guard.operation in OF_TWO:
            kind, form = OF_TWO[self.guard.operation]
            if kind_of(op_type) == kind and self._named(nearby=True):
                return self._of_two(graph.get_operation_by_name(op_name), outputs, form)
            return outputs
        if self.guard.operation == CONSTANT:
            if inputs:
                self._fill(graph.get_operation_by_name(op_name))
            return outputs
        unsafe = UNSAFE_OPERATIONS[self.guard.operation]
        if kind_of(op_type) == unsafe.kind and is_float(inputs[0]) and self._named():
            self.matches[self.guard] += 1
            operation = graph.get_operation_by_name(op_name)
            done = self.done.setdefault(graph, set())
            with graph.as_default():
                inside = kept(
                    unsafe, operation.inputs, self.guard.epsilon, lambda x: x.op.name in done
                )
                inside = {
                    index: watched(self.guard, operation.inputs[index], tensor)
                    for index, tensor in inside.items()
                }
            for index, tensor in inside.items():
                give_input(operation, index, tensor)
            done.add(operation.name)
        return outputs  # the next callback is called with these

    def execute(self, run: Callable[..., Any], context: Any, kind: str, name: Any, *given: Any):
        """Run an eager operation, the guarded one with the inputs that it is to be given."""
        if self.guard.operation == CONSTANT:
            own = map(nonfinite_constants.executed, given) if self._named() else given
            return run(context, kind, name, *own)
        unsafe = UNSAFE_OPERATIONS.get(self.guard.operation)
        if unsafe is None or kind != unsafe.kind:
            return run(context, kind, name, *given)
        inputs = operands(given, unsafe)
        if is_float(inputs[0]) and self._named():
            inside = kept(unsafe, inputs, self.guard.epsilon, lambda _: False)
            given = (*(inside.get(i, x) for i, x in enumerate(inputs)), *given[len(inputs) :])
        return run(context, kind, name, *given)

    def _fill(self, operation: tf.Operation) -> None:
        """Give an operation finite constants in the place of those that are not."""
        with operation.graph.as_default():
            finite = [nonfinite_constants.in_graph(tensor) for tensor in operation.inputs]
        if any(tensor is not None for tensor in finite) and self._named():
            self.matches[self.guard] += 1
            for index, tensor in enumerate(finite):
                if tensor is not None:
                    give_input(operation, index, tensor)

    def _stable(self, kind: str, outputs: Any, op_name: Any, graph: tf.Graph) -> Any:
        """Return the stable form of a logarithm of exponentials, and of any other operation its own
        outputs. As it is the same number, all in the file of the guard are computed so: what is
        kept from overflowing in one line may overflow in the next.
        """
        if kind not in ("Log", "Log1p", "Mul") or not self._named(nearby=True):
            return outputs
        operation = graph.get_operation_by_name(op_name)
        if kind == "Mul":
            self._times_log(operation, graph)
            return outputs
        with graph.as_default():
            found = stable_form(kind, operation.inputs[0])
            if found is None:
                return outputs
            # Where gradients are recorded, they are those of the logarithm, whatever stands for its
            # output: it is given what it makes 0 of, with the gradient of the stable form.
            value = tf.stop_gradient(found)
            slope = tf.where(tf.math.is_finite(value), found - value, tf.zeros_like(value))
            given = tf.exp(slope) if kind == "Log" else tf.math.expm1(slope)
        self.matches[self.guard] += 1
        give_input(operation, 0, given)
        with graph.as_default():
            return [operation.outputs[0] + value]

    def _of_two(
        self,
        operation: tf.Operation,
        outputs: Any,
        form: Callable[[tf.Tensor, tf.Tensor], tf.Tensor | None],
    ) -> Any:
        """Let a quotient of exponentials be computed of their exponents, as those of a softmax, or
        a difference without cancellation: one operand becomes the result, the other what leaves it
        as it is, since an operation takes no other shapes than it was made with. Returns what it
        gives then.
        """
        value = None
        first, second = operation.inputs
        divides = operation.type == "RealDiv"
        with operation.graph.as_default():
            found = form(first, second)
            if found is None:
                return outputs
            shapes = [found.shape.as_list(), *(each.shape.as_list() for each in (first, second))]
            if shapes[0] == shapes[1]:
                neutral = tf.raw_ops.OnesLike if divides else tf.raw_ops.ZerosLike
                given = found, neutral(x=second)
            elif shapes[0] == shapes[2] and not divides:
                given = tf.raw_ops.ZerosLike(x=first), -found
            elif shapes[0] == shapes[2]:
                # 1 / (1 - x) for an x that is 0 and has the gradient of the quotient.
                value = tf.stop_gradient(found)
                given = tf.raw_ops.OnesLike(x=first), 1 - (found - value)
            else:
                return outputs
        self.matches[self.guard] += 1
        for index, tensor in enumerate(given):
            give_input(operation, index, tensor)
        if value is None:
            return outputs
        with operation.graph.as_default():
            return [(operation.outputs[0] - 1) + value]

    def _times_log(self, operation: tf.Operation, graph: tf.Graph) -> None:
        """Let a product with a logarithm be 0 where the factor is: one of the two becomes the
        product, the other 1, since an operation takes no other shapes than it was made with.
        """
        shapes = [tensor.shape.as_list() for tensor in operation.inputs]
        whole = operation.outputs[0].shape.as_list()
        with graph.as_default():
            product = factor_times_log(*operation.inputs) if whole in shapes else None
            if product is None or product.shape.as_list() != whole:
                return
            ones = [tf.ones_like(tensor) for tensor in operation.inputs]
        index = shapes.index(whole)
        self.matches[self.guard] += 1
        give_input(operation, index, product)
        give_input(operation, 1 - index, ones[1 - index])

    def _named(self, *, nearby: bool = False) -> bool:
        """Say whether the operation that is being created is the one that the guard names, or, with
        `nearby`, one in the same file.
        """
        frame, source, code = sys._getframe(2), self.guard.source, self.guard.code
        if source is None:
            return innermost_layer(frame) is self.layer
        line = innermost_line(frame)
        if line is None:
            return False
        if nearby:
            return line.source.rpartition(":")[0] == source.rpartition(":")[0]
        return line.source == source if code is None else line.is_that_of(code)


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

    def eagerly(*args, **kwargs):
        with executed_by(rewire.execute):
            return function(*args, **kwargs)

    compiled = _compiled(owner, in_graph) if name == "call" else eagerly
    stable = rewire.guard.operation in STABLE_FORMS  # it can be told in a graph alone

    @functools.wraps(function)
    def either(*args, **kwargs):
        if not tf.executing_eagerly():
            return in_graph(*args, **kwargs)
        looked_at = functions_are_to_run_eagerly() and not stable
        return (eagerly if looked_at else compiled)(*args, **kwargs)

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
