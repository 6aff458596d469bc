"""Take, verify and restore everything that a bit-identical replay of training needs."""

import copy
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

PLAIN = (bool, int, float, complex, str, bytes, type(None), np.generic, np.ndarray)
UNTOUCHED = {"model", "_model", "params", "validation_data"}


@dataclass(frozen=True)
class Snapshot:
    """The state of a run after `step` steps of epoch `epoch` (counting from 0), known to be finite.

    `values` pairs every variable with the tensor it held. TensorFlow copies a variable's buffer when it is
    written while somebody still reads it, so taking a snapshot copies nothing and the next step pays.
    """

    epoch: int
    step: int
    total: int  # steps since the run began
    values: tuple[tuple[Any, Any], ...]
    callbacks: tuple[tuple[Any, dict[str, Any]], ...] = ()

    @property
    def nbytes(self) -> int:
        return sum(int(np.prod(value.shape)) * value.dtype.size for _, value in self.values)


def state_variables(model: Any) -> list[Any]:
    """Return weights, statistics, seeds, optimizer slots and metrics of `model`, each once."""
    optimizers = [model.optimizer, *(value for value in vars(model).values() if isinstance(value, keras.Optimizer))]
    groups = [model.variables, *(o.variables for o in optimizers if o is not None), model.metrics_variables]
    return list({id(variable): variable for group in groups for variable in group}.values())


def read(variable: Any) -> Any:
    """Return the tensor that a Keras variable holds now, without copying it."""
    value = variable.value
    return value.read_value() if hasattr(value, "read_value") else tf.convert_to_tensor(value)


def is_finite(tensor: Any) -> bool:
    """Say whether a tensor holds neither NaN nor inf; integers and strings always do."""
    if not tensor.dtype.is_floating:
        return True
    if tensor.dtype in (tf.float32, tf.float64) and "CPU" in (tensor.device or ""):
        return bool(np.isfinite(np.asarray(memoryview(tensor))).all())  # reads the buffer in place
    return bool(tf.reduce_all(tf.math.is_finite(tf.cast(tensor, tf.float32))))


def nonfinite_variables(model: Any) -> list[str]:
    """Return the paths of the variables of `model` and its optimizer that hold NaN or inf.

    Metrics are left out: an accuracy of inf is no failure of the training.
    """
    metrics = {id(variable) for variable in model.metrics_variables}
    return [v.path for v in state_variables(model) if id(v) not in metrics and not is_finite(read(v))]


def take(model: Any, *, epoch: int = 0, step: int = 0, total: int = 0, callbacks: Iterable[Any] = ()) -> Snapshot | None:
    """Return a snapshot of `model`, or None when a weight, slot or statistic is non-finite: none is kept unverified."""
    metrics = {id(variable) for variable in model.metrics_variables}
    values = tuple((variable, read(variable)) for variable in state_variables(model))
    if not all(id(variable) in metrics or is_finite(value) for variable, value in values):
        return None
    return Snapshot(epoch, step, total, values, tuple((c, _plain_state(c)) for c in callbacks))


def restore(snapshot: Snapshot) -> None:
    """Put every variable and callback back to what it was when `snapshot` was taken."""
    for variable, value in snapshot.values:
        variable.assign(value)
    for callback, state in snapshot.callbacks:
        vars(callback).update({name: copy.copy(value) for name, value in state.items()})


def _plain_state(callback: Any) -> dict[str, Any]:
    """Return the numbers, texts, arrays and containers a callback remembers; open files and the like stay its own."""
    return {
        name: copy.copy(value)
        for name, value in vars(callback).items()
        if name not in UNTOUCHED and isinstance(value, (*PLAIN, list, dict, set, tuple))
    }
