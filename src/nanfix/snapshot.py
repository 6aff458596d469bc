"""Take, verify and restore everything that a bit-identical replay of training needs."""

import copy
import math
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from nanfix.adapted import constants
from nanfix.optimizers import optimizers

PLAIN = (bool, int, float, complex, str, bytes, type(None), np.generic, np.ndarray)
UNTOUCHED = {"model", "_model", "params", "validation_data", "_writers", "_prev_summary_state"}  # the last two are TensorBoard's


@dataclass(frozen=True)
class Snapshot:
    """The state of a run after `step` steps of epoch `epoch` (counting from 0), known to be finite.

    `tensors` gives what each of `variables` held, from memory or from a file. TensorFlow copies a variable's buffer
    when it is written while somebody still reads it, so taking a snapshot copies nothing and the next step pays.
    """

    epoch: int
    step: int
    total: int  # steps since the run began
    variables: tuple[Any, ...]
    tensors: Iterable[Any]
    callbacks: tuple[tuple[Any, dict[str, Any]], ...] = ()
    weight_norm: float = math.nan
    taken: float = 0.0  # seconds since 1970; 0 for one of another process

    @property
    def nbytes(self) -> int:
        """Bytes of memory held; a snapshot on disk holds none."""
        if not isinstance(self.tensors, tuple):
            return 0
        return sum(int(tensor.shape.num_elements() or 0) * tensor.dtype.size for tensor in self.tensors)


def state_variables(model: Any) -> list[Any]:
    """Return weights, statistics, seeds, optimizer slots and metrics of `model`, each once."""
    groups = [model.variables, *(optimizer.variables for optimizer in optimizers(model)), model.metrics_variables]
    return list({id(variable): variable for group in groups for variable in group}.values())


def read(variable: Any) -> Any:
    """Return the tensor that a Keras variable holds now, on the CPU, without copying it there."""
    value = variable.value
    if isinstance(value, tf.Variable) and not isinstance(value, tf.distribute.DistributedValues):
        tensor = tf.raw_ops.ReadVariableOp(resource=value.handle, dtype=value.dtype)  # a third of read_value's time
        return tensor if "CPU" in tensor.device else tensor.cpu()
    return value.read_value() if hasattr(value, "read_value") else tf.convert_to_tensor(value)


def squared_norm(tensor: Any) -> float:
    """Return the sum of squares of a tensor: finite when all of it is, but for sums beyond its range; 0 for integers."""
    if not tensor.dtype.is_floating:
        return 0.0
    if tensor.dtype in (tf.float32, tf.float64) and "CPU" in (tensor.device or ""):
        values = np.asarray(memoryview(tensor)).reshape(-1)  # reads the buffer in place
        with np.errstate(all="ignore"):
            return float(np.dot(values, values))
    return float(tf.reduce_sum(tf.square(tf.cast(tensor, tf.float32))))


def is_finite(tensor: Any) -> bool:
    """Say whether a tensor holds neither NaN nor inf; integers and strings always do."""
    return math.isfinite(squared_norm(tensor)) or bool(tf.reduce_all(tf.math.is_finite(tensor)))


def nonfinite_variables(model: Any) -> list[str]:
    """Return the paths of the variables of `model` and its optimizers that hold NaN or inf.

    Metrics are left out: an accuracy of inf is no failure of the training. So is what Normalization layers were adapted to,
    which no training changes.
    """
    metrics = {id(variable) for variable in model.metrics_variables}
    ruined = [v for v in state_variables(model) if id(v) not in metrics and not is_finite(read(v))]
    given = constants(model) if ruined else set()
    return [variable.path for variable in ruined if id(variable) not in given]


def take(model: Any, *, epoch: int = 0, step: int = 0, total: int = 0, callbacks: Iterable[Any] = ()) -> Snapshot | None:
    """Return a snapshot of `model`, or None when a weight, slot or statistic is non-finite: none is kept unverified.

    As in `nonfinite_variables`, constants do not count.
    """
    variables = tuple(state_variables(model))
    tensors = tuple(map(read, variables))
    metrics = {id(variable) for variable in model.metrics_variables}
    weights = {id(variable) for variable in model.trainable_variables}
    norm = 0.0
    for variable, tensor in zip(variables, tensors, strict=True):
        if id(variable) in metrics:
            continue
        squares = squared_norm(tensor)
        if not math.isfinite(squares) and not is_finite(tensor) and id(variable) not in constants(model):
            return None
        norm += squares if id(variable) in weights else 0.0
    states = tuple((callback, plain_state(callback)) for callback in callbacks)
    return Snapshot(epoch, step, total, variables, tensors, states, math.sqrt(norm), time.time())


def restore(snapshot: Snapshot) -> None:
    """Put every variable and callback back to what it was when `snapshot` was taken."""
    for variable, tensor in zip(snapshot.variables, snapshot.tensors, strict=True):
        variable.assign(tensor)
    remember(snapshot.callbacks)


def remember(states: Iterable[tuple[Any, dict[str, Any]]]) -> None:
    """Let callbacks know again what they knew."""
    for callback, state in states:
        vars(callback).update({name: copy.copy(value) for name, value in state.items()})


def plain_state(callback: Any) -> dict[str, Any]:
    """Return the numbers, texts, arrays and containers a callback remembers; open files and the like stay its own."""
    return {
        name: copy.copy(value)
        for name, value in vars(callback).items()
        if name not in UNTOUCHED and isinstance(value, (*PLAIN, list, dict, set, tuple))
    }
