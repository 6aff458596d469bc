"""How large the numbers are that an untrained model makes of real rows, and weights that keep them
small.
"""

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import tree

from nanfix.data.arrays import Leaf, is_dense, take_rows
from nanfix.explain._batch_changes import input_moments, of_unit_scale
from nanfix.explain.microscope import NOT_EAGERLY
from nanfix.explain.oddities import usual
from nanfix.model.addresses import walk
from nanfix.model.faults import is_raised_by_nanfix
from nanfix.model.operations import Operation, traced
from nanfix.model.run import Run
from nanfix.model.snapshot import restore
from nanfix.private.tensorflow import functions_run_eagerly
from nanfix.recorder.recording import Recording

ROWS = 32
KEPT, SMALLER, TIMES = 4.0, 0.7, 8  # kernels get smaller until no layer gives more than `KEPT`

Weights = list[tuple[keras.Variable, np.ndarray]]


def signal_at_the_start(run: Run, recording: Recording) -> tuple[tuple[str, float], ...]:
    """Return for each layer the root mean square of what it gives for rows of unit scale, with the
    initial weights; empty where the model cannot be run eagerly. Leaves the newest snapshot.
    """
    restore(recording.initial)
    found = _signal(run, _rows(run))
    restore(recording.newest)
    return tuple(found.items())


def fitting_weights(run: Run) -> Weights:
    """Return kernels with which the signal keeps its scale: He's variance, and less where sums, as
    in residual stacks, still make it grow. Changes the weights of the model.
    """
    kernels: list[keras.Variable] = []
    for position, (_, layer) in enumerate(walk(run.model)):
        if getattr(layer, "kernel", None) is not None:
            drawn = keras.initializers.HeNormal(seed=position)
            layer.kernel.assign(drawn(layer.kernel.shape, dtype=layer.kernel.dtype))
            kernels.append(layer.kernel)
        if getattr(layer, "recurrent_kernel", None) is not None:
            drawn, recurrent = keras.initializers.Orthogonal(seed=position), layer.recurrent_kernel
            recurrent.assign(drawn(recurrent.shape, dtype=recurrent.dtype))
            kernels.append(recurrent)
    rows = _rows(run)
    for _ in range(TIMES):
        if max(_signal(run, rows).values(), default=0.0) <= KEPT:
            break
        for kernel in kernels:
            kernel.assign(np.asarray(kernel) * SMALLER)
    return [(kernel, np.array(kernel)) for kernel in kernels]


def assign(weights: Weights) -> None:
    for kernel, value in weights:
        kernel.assign(value)


def _rows(run: Run) -> Any:
    """Return the inputs of some rows, of unit scale."""
    given = tree.map_structure(_whole, take_rows(run.sample.x, slice(0, ROWS)))
    rows, *_ = of_unit_scale((given, None), inputs=input_moments(usual(run.sample)))
    return rows


def _signal(run: Run, rows: Any) -> dict[str, float]:
    found: dict[str, float] = {}

    def visit(operation: Operation) -> None:
        if operation.layer is None:
            return
        for tensor in operation.outputs:
            if getattr(tensor, "dtype", tf.int32).is_floating and tensor.shape.rank:
                values = np.asarray(tensor).astype("float64")
                found[operation.layer.name] = float(np.sqrt(np.mean(np.square(values))))

    try:
        with functions_run_eagerly(True), traced(visit):
            run.model(rows, training=False)
    except NOT_EAGERLY as refused:
        if is_raised_by_nanfix(refused):
            raise
        return {}
    return {name: value if np.isfinite(value) else np.inf for name, value in found.items()}


def _whole(leaf: Leaf) -> Leaf:
    if leaf is None or not is_dense(leaf):
        return leaf
    tensor = tf.convert_to_tensor(leaf)
    if not tensor.dtype.is_floating:
        return tensor
    return tf.where(tf.math.is_finite(tensor), tensor, tf.zeros_like(tensor))
