"""What nanfix takes from TensorFlow's private modules, and calls of private methods.
Loads TensorFlow.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tensorflow.python.eager import context
from tensorflow.python.framework import op_callbacks
from tensorflow.python.util import tf_stack


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


def give_input(operation: Any, index: int, tensor: Any) -> None:
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
