"""What nanfix takes from Keras' private modules, and calls of private methods. Loads
Keras and TensorFlow.
"""

from collections.abc import Callable
from typing import Any

import keras

# Which steps of a sequence Keras leaves out of the loss: an attribute of the tensor, without a
# public name.
from keras.src.backend import get_keras_mask

# The logs of one step: the function that Keras' own `train_function` calls.
from keras.src.backend.tensorflow.trainer import reduce_per_replica

# Any loss that `compile` takes, computed of arrays. `model.compute_loss` computes the loss of a
# compiled model alone.
from keras.src.trainers.compile_utils import CompileLoss

# Batches, their order and their types exactly as `fit` makes them of the user's data. No public
# function returns them.
from keras.src.trainers.data_adapters import get_data_adapter
from keras.src.trainers.data_adapters.array_data_adapter import ArrayDataAdapter, can_convert_arrays
from keras.src.trainers.data_adapters.array_slicing import (
    TensorflowSparseWrapper,
    convert_to_sliceable,
    slice_tensorflow_sparse_wrapper,
    to_tensorflow_sparse_wrapper,
)

# The name that Keras makes of a class for a layer without one: its names and the user's can be told
# apart by it alone.
from keras.src.utils.naming import to_snake_case

__all__ = [
    "ArrayDataAdapter",
    "CompileLoss",
    "TensorflowSparseWrapper",
    "build_on_symbols",
    "can_convert_arrays",
    "convert_to_sliceable",
    "get_data_adapter",
    "get_keras_mask",
    "reduce_per_replica",
    "slice_tensorflow_sparse_wrapper",
    "to_snake_case",
    "to_tensorflow_sparse_wrapper",
    "trains_by_own_loop",
    "without_optionals",
]

# What makes `model.train_function`. Keras documents the first as the one to override;
# the second does the work.
LOOPS = ("make_train_function", "_make_function")


def trains_by_own_loop(model: keras.Model) -> bool:
    """Say whether the class of a model makes its own `train_function`, rather than to
    inherit Keras'.
    """
    return any(getattr(type(model), method) is not getattr(keras.Model, method) for method in LOOPS)


def without_optionals(model: keras.Model, step: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return a step that takes None for what a generator left out, as Keras'
    `train_function` wraps its own.
    """
    return model._autoconvert_optionals(step)


def build_on_symbols(model: keras.Model, batch: Any) -> None:
    """Make all variables of a compiled model without running it: `build` makes those of layers, not
    of metrics and optimizer.
    """
    model._symbolic_build(data_batch=batch)
