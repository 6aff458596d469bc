"""Take, verify and restore everything that a bit-identical replay of training needs."""

import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
import tensorflow as tf

from nanfix.model.normalization import constants
from nanfix.model.object_state import (
    arrays,
    count_again,
    counters,
    plain_state,
    plain_variables,
    remember,
)
from nanfix.model.optimizers import optimizers
from nanfix.private.objects import all_layers, own_statistics

if TYPE_CHECKING:
    import keras

# By layer of the user's own, the names of the statistics that held NaN before it was trained.
_unset: "WeakKeyDictionary[keras.Layer, frozenset[str]]" = WeakKeyDictionary()


@dataclass(frozen=True)
class Snapshot:
    """The state of a run after `step` steps of epoch `epoch` (counting from 0), known to be finite;
    only what the user began with may not be, and then has no `weight_norm`.

    `tensors` gives what each of `variables` held, from memory or from a file. TensorFlow copies a
    variable's buffer when it is written while somebody still reads it, so taking a snapshot copies
    nothing and the next step pays.
    """

    epoch: int
    step: int
    total: int  # steps since the run began
    variables: "tuple[keras.Variable | tf.Variable, ...]"
    tensors: Iterable[Any]
    callbacks: "tuple[tuple[keras.callbacks.Callback, dict[str, Any]], ...]" = ()
    weight_norm: float = math.nan
    taken: float = 0.0  # seconds since 1970; 0 for one of another process
    # Plain attributes of the model and its layers.
    counters: "tuple[tuple[keras.Layer, dict[str, Any]], ...]" = ()

    @property
    def nbytes(self) -> int:
        """Bytes of memory held, tensors and arrays; of a snapshot on disk, arrays alone."""
        return held_bytes([self])

    def held(self, variables: Iterable[Any] | None = None) -> dict[int, Any]:
        """Return what variables, all or these, held, by their id()."""
        wanted = None if variables is None else {id(variable) for variable in variables}
        pairs = zip(self.variables, self.tensors, strict=True)
        return {id(v): tensor for v, tensor in pairs if wanted is None or id(v) in wanted}

    @property
    def tensor_bytes(self) -> int:
        """Bytes of memory that the tensors hold, which no other snapshot shares."""
        if not isinstance(self.tensors, tuple):
            return 0
        return sum(
            int(tensor.shape.num_elements() or 0) * tensor.dtype.size for tensor in self.tensors
        )


def held_bytes(snapshots: Iterable[Snapshot]) -> int:
    """Return the bytes of memory that snapshots hold together; the copy of an array that does not
    change is one for all.
    """
    each = list(snapshots)
    shared = {
        id(array): array.nbytes
        for snapshot in each
        for array in arrays((*snapshot.callbacks, *snapshot.counters))
    }
    return sum(snapshot.tensor_bytes for snapshot in each) + sum(shared.values())


def state_variables(model: Any) -> "list[keras.Variable | tf.Variable]":
    """Return weights, statistics, seeds, optimizer slots, metrics and the plain
    variables of `model`, each once.
    """
    tracked = [
        model.variables,
        *(optimizer.variables for optimizer in optimizers(model)),
        model.metrics_variables,
    ]
    each = {id(variable): variable for group in tracked for variable in group}
    plain = [variable for variable in plain_variables(model) if id(variable) not in each]
    # Code of the user's may hold these as well.
    values = {id(variable.value) for variable in each.values()} if plain else set()
    return [*each.values(), *(variable for variable in plain if id(variable) not in values)]


def read(variable: "keras.Variable | tf.Variable") -> tf.Tensor:
    """Return the tensor that a variable holds now, on the CPU, without copying it there."""
    value = variable if isinstance(variable, tf.Variable) else variable.value
    if isinstance(value, tf.Variable) and not isinstance(value, tf.distribute.DistributedValues):
        # A third of read_value's time.
        tensor = tf.raw_ops.ReadVariableOp(resource=value.handle, dtype=value.dtype)
        return tensor if "CPU" in tensor.device else tensor.cpu()
    return value.read_value() if hasattr(value, "read_value") else tf.convert_to_tensor(value)


def squared_norm(tensor: Any) -> float:
    """Return the sum of squares of a tensor: finite when all of it is, but for sums beyond its
    range; 0 for integers.
    """
    if not tensor.dtype.is_floating:
        return 0.0
    if tensor.dtype in (tf.float32, tf.float64) and "CPU" in (tensor.device or ""):
        values = np.asarray(memoryview(tensor)).reshape(-1)  # reads the buffer in place
        with np.errstate(all="ignore"):
            return float(np.dot(values, values))
    return float(tf.reduce_sum(tf.square(tf.cast(tensor, tf.float32))))


def is_finite(tensor: tf.Tensor) -> bool:
    """Say whether a tensor holds neither NaN nor inf; integers and strings always do."""
    return math.isfinite(squared_norm(tensor)) or bool(tf.reduce_all(tf.math.is_finite(tensor)))


def nonfinite_variables(model: Any) -> list[str]:
    """Return the paths of the variables of `model` and its optimizers that hold NaN or inf.

    Metrics are left out: an accuracy of inf is no failure of the training. So is what Normalization
    layers were adapted to, which no training changes, plain variables of the user's, who may begin
    a minimum with inf, and likewise the inf of what else a layer of the user's own keeps beside its
    trained weights; its NaN only where it held NaN before training, as what is not seen yet.
    """
    passed = {id(variable) for variable in model.metrics_variables}
    held = (
        (v, read(v)) for v in state_variables(model) if not _is_plain(v) and id(v) not in passed
    )
    ruined = [(v, tensor) for v, tensor in held if not is_finite(tensor)]
    return [v.path for v, tensor in ruined if not _is_meant(model, v, tensor)]


def meant_statistics(model: Any) -> "list[keras.Variable]":
    """Return what layers of the user's own keep beside their trained weights and what is not finite
    there, but may be meant.
    """
    own = ((variable, read(variable)) for _, variable in _statistics(model))
    return [v for v, held in own if not is_finite(held) and _is_meant(model, v, held)]


def _is_meant(model: Any, variable: "keras.Variable", tensor: tf.Tensor) -> bool:
    """Say whether a variable may hold what is not finite."""
    if id(variable) in constants(model):
        return True
    kept = [layer for layer, own in _statistics(model) if variable is own]
    return bool(kept) and (variable.name in _unset.get(kept[0], ()) or not _holds_nan(tensor))


def remember_unset(
    model: Any,
    variables: "Iterable[keras.Variable | tf.Variable]",
    tensors: Iterable[tf.Tensor],
) -> None:
    """Remember which statistics of the user's own layers hold NaN in what a training begins with:
    what is not seen yet may be kept so.
    """
    held = {id(variable): tensor for variable, tensor in zip(variables, tensors, strict=True)}
    for layer, own in _statistics(model):
        if id(own) in held and not is_finite(held[id(own)]) and _holds_nan(held[id(own)]):
            _unset[layer] = _unset.get(layer, frozenset()) | {own.name}


def _statistics(model: Any) -> "Iterator[tuple[keras.Layer, keras.Variable]]":
    for layer in all_layers(model):
        if not type(layer).__module__.startswith("keras."):
            yield from ((layer, variable) for variable in own_statistics(layer))


def _holds_nan(tensor: tf.Tensor) -> bool:
    return bool(tf.reduce_any(tf.math.is_nan(tensor)))


def take(
    model: Any,
    *,
    epoch: int = 0,
    step: int = 0,
    total: int = 0,
    callbacks: "Iterable[keras.callbacks.Callback]" = (),
) -> Snapshot | None:
    """Return a snapshot of `model`, or None when a weight, slot or statistic is non-finite."""
    snapshot = take_as_it_is(model, epoch=epoch, step=step, total=total, callbacks=callbacks)
    return None if math.isnan(snapshot.weight_norm) else snapshot


def take_as_it_is(
    model: Any,
    *,
    initial: bool = False,
    epoch: int = 0,
    step: int = 0,
    total: int = 0,
    callbacks: "Iterable[keras.callbacks.Callback]" = (),
) -> Snapshot:
    """Return a snapshot of `model`, finite or not; what is NaN on purpose in an `initial` one is
    remembered.
    """
    variables = tuple(state_variables(model))
    tensors = tuple(map(read, variables))
    if initial:
        remember_unset(model, variables, tensors)
    norm = verified(model, variables, tensors)
    return Snapshot(
        epoch=epoch,
        step=step,
        total=total,
        variables=variables,
        tensors=tensors,
        callbacks=tuple((callback, plain_state(callback)) for callback in callbacks),
        weight_norm=math.nan if norm is None else norm,
        taken=time.time(),
        counters=tuple(counters(model)),
    )


def verified(
    model: "keras.Model",
    variables: "Iterable[keras.Variable | tf.Variable]",
    tensors: Iterable[tf.Tensor],
) -> float | None:
    """Return the norm of the weights among what variables hold; None when a weight, slot or
    statistic is non-finite.

    As in `nonfinite_variables`, what is meant to be so does not count.
    """
    metrics = {id(variable) for variable in model.metrics_variables}
    weights = {id(variable) for variable in model.trainable_variables}
    norm = 0.0
    for variable, tensor in zip(variables, tensors, strict=True):
        if id(variable) in metrics or _is_plain(variable):
            continue
        squares = squared_norm(tensor)
        if (
            not math.isfinite(squares)
            and not is_finite(tensor)
            and not _is_meant(model, variable, tensor)
        ):
            return None
        norm += squares if id(variable) in weights else 0.0
    return math.sqrt(norm)


def restore(snapshot: Snapshot) -> None:
    """Put every variable, counter and callback back to what it was when `snapshot` was taken."""
    for variable, tensor in zip(snapshot.variables, snapshot.tensors, strict=True):
        variable.assign(tensor)
    count_again(snapshot.counters)
    remember(snapshot.callbacks)


def _is_plain(variable: "keras.Variable | tf.Variable") -> bool:
    return isinstance(variable, tf.Variable)
