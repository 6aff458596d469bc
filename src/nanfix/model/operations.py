"""See every single TensorFlow operation of an eager computation: what it is, whose it
is, what went in and out.

Stands on the private hook under `tf.debugging.enable_check_numerics`.
"""

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import CodeType, FrameType
from typing import TYPE_CHECKING

import keras
import numpy as np

from nanfix.model.user_code import PACKAGE, Line, is_own, is_users, line, outward
from nanfix.private.tensorflow import called_with_operations
from nanfix.records.diagnosis import Phase

if TYPE_CHECKING:
    import tensorflow as tf

# What of nanfix stands inside the user's own call: guards round a repaired layer, and what listens
# for loops and updates.
_INSIDE = ("changes/graph_guard.py", "scripts/_hand_written_loops.py", "model/optimizers.py")
_WITHIN = tuple(str(PACKAGE / name) for name in _INSIDE)
UPDATES = ("apply", "apply_gradients")


@dataclass(frozen=True)
class Operation:
    """One executed operation. `layers` stands from the outermost layer to the
    innermost; the model is not in it.
    """

    kind: str
    inputs: "tuple[tf.Tensor, ...]"
    outputs: "tuple[tf.Tensor, ...]"
    layers: tuple[keras.Operation, ...]
    functions: frozenset[str]  # names of the Python functions on the stack
    own_step: bool  # whether a training step of the user's own computes it, and no layer or model
    updates: bool  # whether an optimizer computes it
    line: Line | None  # innermost line of the user's own code
    at: tuple[CodeType, int] | None = None  # the instruction of that line, unless it was rewritten

    @property
    def layer(self) -> keras.Operation | None:
        return self.layers[-1] if self.layers else None

    @property
    def phase(self) -> Phase:
        if self.updates:
            return Phase.UPDATE
        if "gradient" in self.functions:
            return Phase.GRADIENT
        if "compute_loss" in self.functions:
            return Phase.LOSS
        return Phase.STEP if self.own_step else Phase.FORWARD


@contextmanager
def traced(visit: Callable[[Operation], None]) -> Iterator[None]:
    """Call `visit` with every operation that is executed eagerly inside the `with`
    block, in order.
    """

    def callback(op_type, inputs, attrs, outputs, op_name=None, graph=None):
        if graph is None:
            visit(_operation(op_type, inputs, outputs))

    with called_with_operations(callback):
        yield


def is_float(tensor: "tf.Tensor") -> bool:
    """Say whether a tensor holds numbers that may be NaN or infinite, complex ones too."""
    dtype = getattr(tensor, "dtype", None)
    return dtype is not None and (dtype.is_floating or dtype.is_complex)


def array_of(tensor: "tf.Tensor") -> np.ndarray:
    """Return the values of an eager tensor. By itself a bfloat16 without dimensions makes no
    array.
    """
    return np.asarray(tensor.numpy())


def kind_of(op_type: str | bytes) -> str:
    """Return the type of an operation as text."""
    return op_type.decode() if isinstance(op_type, bytes) else op_type


def innermost_layer(frame: FrameType | None) -> keras.Operation | None:
    """Return the innermost layer whose computation is on the stack, or None; a model
    does not count.
    """
    return next((layer for layer in map(_layer, outward(frame)) if layer is not None), None)


def _operation(
    kind: str | bytes, inputs: "Iterable[tf.Tensor]", outputs: "Iterable[tf.Tensor]"
) -> Operation:
    layers: list[keras.Operation] = []
    functions: set[str] = set()
    updates = called = own_step = False
    innermost = at = None
    for frame in outward(sys._getframe(2)):
        # Beyond nanfix stands who called it.
        if is_own(frame.f_code.co_filename) and frame.f_code.co_filename not in _WITHIN:
            break
        functions.add(frame.f_code.co_name)
        updates = updates or _updates(frame)
        layer = _called(frame)
        called = called or layer is not None
        if layer is not None and not isinstance(layer, keras.Model) and layer not in layers:
            layers.append(layer)
        own_step = own_step or (not called and _is_own_step(frame))
        if innermost is None:
            innermost = line(frame)
            if innermost is not None and is_users(frame.f_code.co_filename):
                at = frame.f_code, frame.f_lasti
    return Operation(
        kind_of(kind),
        tuple(inputs),
        tuple(outputs),
        layers=tuple(reversed(layers)),
        functions=frozenset(functions),
        own_step=own_step,
        updates=updates,
        line=innermost,
        at=at,
    )


def _layer(frame: FrameType) -> keras.Operation | None:
    """Return the layer that a frame computes, or None; a model is none."""
    owner = _called(frame)
    return None if isinstance(owner, keras.Model) else owner


def _called(frame: FrameType) -> keras.Operation | None:
    """Return the layer or model that a frame computes, or None. An operation on a symbolic tensor
    is a node of the model like a layer.
    """
    owner = (
        frame.f_locals.get("self")
        if frame.f_code.co_name in ("call", "build", "__call__")
        else None
    )
    return owner if isinstance(owner, keras.Operation) else None


def _is_own_step(frame: FrameType) -> bool:
    return frame.f_code.co_name == "train_step" and is_users(frame.f_code.co_filename)


def _updates(frame: FrameType) -> bool:
    """Say whether a frame is that of an optimizer which changes variables."""
    return frame.f_code.co_name in UPDATES and isinstance(
        frame.f_locals.get("self"), keras.Optimizer
    )
