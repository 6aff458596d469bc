"""See every single TensorFlow operation of an eager computation: what it is, whose it is, what went in and out.

Stands on `op_callbacks`, the private hook under `tf.debugging.enable_check_numerics`; nothing else touches it.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
from tensorflow.python.framework import op_callbacks

_LIBRARIES = tuple(f"{sep}{name}{sep}" for sep in ("/", "\\") for name in ("site-packages", "dist-packages"))
_OWN = str(Path(__file__).resolve().parent)
_STDLIB = str(Path(contextmanager.__code__.co_filename).parent)


@dataclass(frozen=True)
class Operation:
    """One executed operation. `layers` stands from the outermost layer to the innermost; the model is not in it."""

    kind: str
    inputs: tuple[Any, ...]
    outputs: tuple[Any, ...]
    layers: tuple[Any, ...]
    functions: frozenset[str]  # names of the Python functions on the stack
    source: str | None  # innermost line of the user's own code

    @property
    def layer(self) -> Any:
        return self.layers[-1] if self.layers else None


@contextmanager
def traced(visit: Callable[[Operation], None]) -> Iterator[None]:
    """Call `visit` with every operation that is executed eagerly inside the `with` block, in order."""

    def callback(op_type, inputs, attrs, outputs, op_name=None, graph=None):
        if graph is None:
            visit(_operation(op_type, inputs, outputs))

    op_callbacks.add_op_callback(callback)
    try:
        yield
    finally:
        op_callbacks.remove_op_callback(callback)


def _operation(kind: str | bytes, inputs: Any, outputs: Any) -> Operation:
    layers: list[Any] = []
    functions: set[str] = set()
    source = None
    frame = sys._getframe(2)
    while frame is not None and not frame.f_code.co_filename.startswith(_OWN):  # beyond nanfix stands who called it
        code = frame.f_code
        functions.add(code.co_name)
        owner = frame.f_locals.get("self") if code.co_name in ("call", "build", "__call__") else None
        if isinstance(owner, keras.Layer) and not isinstance(owner, keras.Model) and owner not in layers:
            layers.append(owner)
        if source is None and _is_users(code.co_filename):
            source = f"{Path(code.co_filename).name}:{frame.f_lineno}"
        frame = frame.f_back
    name = kind.decode() if isinstance(kind, bytes) else kind
    return Operation(name, tuple(inputs), tuple(outputs), tuple(reversed(layers)), frozenset(functions), source)


def _is_users(filename: str) -> bool:
    """Say whether a file is the user's own: neither a library's nor Python's."""
    return not filename.startswith((_STDLIB, "<")) and not any(part in filename for part in _LIBRARIES)
