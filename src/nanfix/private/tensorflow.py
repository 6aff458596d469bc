"""What nanfix takes from TensorFlow's private modules, and calls of private methods.
Loads TensorFlow.
"""

import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tensorflow.python import pywrap_tfe
from tensorflow.python.eager import context
from tensorflow.python.eager.polymorphic_function.polymorphic_function import Function
from tensorflow.python.framework import op_callbacks
from tensorflow.python.util import tf_stack

if TYPE_CHECKING:
    import tensorflow as tf


@contextmanager
def called_with_operations(callback: Callable[..., Any]) -> Iterator[None]:
    """Call `callback(op_type, inputs, attrs, outputs, op_name, graph)` with every operation made
    inside the `with` block.

    Where it returns something, that stands for the outputs. It is the hook under
    `tf.debugging.enable_check_numerics`, which is public, but only looks at outputs,
    and dumps or raises.
    """
    op_callbacks.add_op_callback(callback)
    try:
        yield
    finally:
        op_callbacks.remove_op_callback(callback)


def is_called_with_operations(callback: Callable[..., Any]) -> bool:
    """Say whether an equal callback is at work in this thread."""
    active: Any = context.context()
    return callback in active.op_callbacks


_taking_turns = threading.RLock()


@contextmanager
def executed_by(execute: Callable[..., Any]) -> Iterator[None]:
    """Let `execute(run, context, kind, name, *given)` stand for the execution of every eager
    operation inside the `with` block; `run`, called with the rest, is what executes it.

    What `called_with_operations` calls sees an eager operation when it has run, and can't give it
    other inputs. All threads are concerned, so two that want this take turns.
    """
    stood_in: Any = pywrap_tfe
    with _taking_turns:
        before = stood_in.TFE_Py_FastPathExecute
        stood_in.TFE_Py_FastPathExecute = functools.partial(execute, before)
        try:
            yield
        finally:
            stood_in.TFE_Py_FastPathExecute = before


class _Wanted(threading.local):
    """How functions are to run in this thread; None: as the user's switch says."""

    eagerly: bool | None = None


_wanted = _Wanted()
_by_switch: Any = Function._run_functions_eagerly


def _run_eagerly(function: Function) -> bool:
    # What TensorFlow makes for itself, as under `tf.vectorized_map`, can't do without its graph.
    of_tensorflow = str(function.python_function.__module__).startswith("tensorflow.")
    if _wanted.eagerly is None or (_wanted.eagerly and of_tensorflow):
        return _by_switch.fget(function)
    return _wanted.eagerly


@contextmanager
def functions_run_eagerly(wanted: bool) -> Iterator[None]:
    """Run each `tf.function` as plain Python inside the `with` block, or as a graph, whatever the
    user's switch says.

    It holds for this thread only. `tf.config.run_functions_eagerly` is one switch for all threads:
    two fits at once, or TensorFlow itself, put it back to what another one had set for a while.
    """
    stood_in: Any = Function
    stood_in._run_functions_eagerly = property(_run_eagerly)
    before, _wanted.eagerly = _wanted.eagerly, wanted
    try:
        yield
    finally:
        _wanted.eagerly = before


def functions_are_to_run_eagerly() -> bool:
    """Say whether this is inside a `with` block of `functions_run_eagerly(True)`."""
    return _wanted.eagerly is True


def give_input(operation: "tf.Operation", index: int, tensor: "tf.Tensor") -> None:
    """Let an operation of a graph take another tensor. `tf.graph_util` can only copy a
    graph with other inputs.
    """
    operation._update_input(index, tensor)


def eager_randomness() -> Any:
    """Return the generator of TensorFlow's eager seeds, None before there is one.
    `tf.random.set_seed` only restarts it.
    """
    return getattr(context.context(), "_rng", None)


def users_stack() -> Any:
    """Return the stack with the places in the user's files for code that AutoGraph made of it;
    Python knows the made code.
    """
    return tf_stack.extract_stack()


def let_go(iterator: Any) -> None:
    """Free what an iterator over a dataset holds, now. It has no `close`, and Keras
    leaves it in a reference cycle.
    """
    if hasattr(iterator, "_iterator_resource"):
        iterator._iterator_resource = None


def is_let_go(iterator: Any) -> bool:
    """Say whether an iterator over a dataset holds nothing any more."""
    return getattr(iterator, "_iterator_resource", None) is None
