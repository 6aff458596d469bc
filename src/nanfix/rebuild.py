"""Put a stock layer behind an input of the user's own Sequential or Functional model, in place."""

from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
from keras import tree
from keras.src.models.functional import Functional
from keras.src.utils.naming import auto_name

from nanfix.setup import Affine


def can_rebuild(model: Any) -> bool:
    """Say whether layers can be added to this very object: Sequential and Functional, but no subclass with its own call."""
    return isinstance(model, Functional | keras.Sequential) and type(model).call in (Functional.call, keras.Sequential.call)


def insert_after_inputs(model: Any, layers: Mapping[int, Callable[[], Any]]) -> None:
    """Run each named input of `model` through a new layer before everything else; the other layers keep their weights.

    `layers` maps the position of a flattened input to a function that makes the layer.
    """
    if isinstance(model, keras.Sequential):
        _insert_sequential(model, layers[0]())
    else:
        _insert_functional(model, {index: make() for index, make in layers.items()})
    model.train_function = model.test_function = model.predict_function = None


def normalization(affine: Affine) -> Callable[[], Any]:
    """Return a maker of the stock layer that computes (x - center) / scale, in float32: raw inputs may exceed half precision."""

    def make() -> Any:
        if len(affine.center) == 1:
            return keras.layers.Normalization(
                axis=None,  # pyright: ignore[reportArgumentType]
                mean=affine.center[0],  # pyright: ignore[reportArgumentType]
                variance=affine.scale[0] ** 2,  # pyright: ignore[reportArgumentType]
                dtype="float32",
            )
        center, scale = np.asarray(affine.center, "float32"), np.asarray(affine.scale, "float32")
        return keras.layers.Normalization(axis=-1, mean=center, variance=scale**2, dtype="float32")

    return make


def imputation(model: Any, index: int, fills: tuple[float, ...]) -> Callable[[], Any]:
    """Return a maker of a small model of stock operations: where an input is NaN or inf, the fill of its feature.

    What goes in and comes out has the shape and type of that flattened input of `model`; `fills` has a number per feature.
    """

    def make() -> Any:
        given = tree.flatten(model.inputs)[index]
        inputs = keras.Input(batch_shape=given.shape, dtype=given.dtype)
        fill = np.asarray(fills, keras.backend.standardize_dtype(given.dtype))
        outputs = keras.ops.where(keras.ops.isfinite(inputs), inputs, fill)
        return keras.Model(inputs, outputs, name=auto_name("impute_nonfinite"))

    return make


def _insert_sequential(model: Any, layer: Any) -> None:
    shape = model.input_shape
    first = model._layers[0]
    rest = model._layers[1:] if isinstance(first, keras.layers.InputLayer) else model._layers
    entry = first if isinstance(first, keras.layers.InputLayer) else keras.layers.InputLayer(batch_shape=shape)
    model._layers = [entry, layer, *rest]
    model._functional = None
    model.built = False
    model._maybe_rebuild()


def _insert_functional(model: Any, layers: Mapping[int, Any]) -> None:
    compiled = {name: value for name, value in vars(model).items() if name in _TRAINER_STATE}
    inputs = [keras.Input(batch_shape=t.shape, dtype=t.dtype, name=t.name) for t in tree.flatten(model.inputs)]
    scaled = [layers[index](tensor) if index in layers else tensor for index, tensor in enumerate(inputs)]
    outputs = model._run_through_graph(scaled, operation_fn=lambda op: op)
    structure = tree.pack_sequence_as(model._inputs_struct, inputs)
    name, trainable = model.name, model.trainable
    Functional.__init__(model, structure, outputs, name=name)
    model.trainable = trainable
    vars(model).update(compiled)


_TRAINER_STATE = {
    "optimizer", "_compile_loss", "_compile_metrics", "_loss_tracker", "compiled", "loss", "_run_eagerly", "_jit_compile",
    "steps_per_execution", "_compile_config", "history", "stop_training", "_distribute_strategy",
}  # fmt: skip
