"""Put stock layers behind an input or in front of a layer of the user's own Sequential or Functional model, in place."""

from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
from keras import tree
from keras.src.models.functional import Functional
from keras.src.utils.naming import auto_name

from nanfix.changes import Affine, Power


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
        _run_anew(model, {index: make() for index, make in layers.items()}, {})
    model.train_function = model.test_function = model.predict_function = None


def insert_before(model: Any, layers: Mapping[Any, Callable[[], Any]]) -> None:
    """Run what goes into each layer, also of a nested model, through a new layer; all layers keep their weights.

    `layers` maps layers, each with a `container`, to a function that makes the new one.
    """
    for layer, make in layers.items():
        owner = container(model, layer)
        assert owner is not None, "asked only for layers that have a container"
        if isinstance(owner, keras.Sequential):
            place = next(index for index, held in enumerate(owner._layers) if held is layer)
            _reset_sequential(owner, [*owner._layers[:place], make(), *owner._layers[place:]])
        else:
            _run_anew(owner, {}, {id(layer): make()})
    model.train_function = model.test_function = model.predict_function = None


def container(model: Any, layer: Any) -> Any:
    """Return the model, this one or one nested in it, that can be rebuilt round that layer of its own; None if there is none."""
    owners = model._flatten_layers(include_self=True, recursive=True)
    return next((o for o in owners if can_rebuild(o) and any(held is layer for held in o.layers)), None)


def layer_normalization() -> Any:
    """Return a layer without weights that gives its inputs the mean 0 and the variance 1 over the last axis, in float32."""
    return keras.layers.LayerNormalization(center=False, scale=False, dtype="float32")


def scaling(model: Any, index: int, change: Affine | Power) -> Callable[[], Any]:
    """Return a maker of what scales that flattened input of `model` with stock layers or operations."""
    return normalization(change) if isinstance(change, Affine) else _computed(model, index, change, "scale_inputs")


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

    def filled(inputs: Any) -> Any:
        fill = np.asarray(fills, keras.backend.standardize_dtype(inputs.dtype))
        return keras.ops.where(keras.ops.isfinite(inputs), inputs, fill)

    return _computed(model, index, filled, "impute_nonfinite")


def _computed(model: Any, index: int, function: Callable[[Any], Any], name: str) -> Callable[[], Any]:
    """Return a maker of a small model that computes `function` of that flattened input of `model`."""

    def make() -> Any:
        given = tree.flatten(model.inputs)[index]
        inputs = keras.Input(batch_shape=given.shape, dtype=given.dtype)
        return keras.Model(inputs, function(inputs), name=auto_name(name))

    return make


def _insert_sequential(model: Any, layer: Any) -> None:
    shape = model.input_shape
    first = model._layers[0]
    rest = model._layers[1:] if isinstance(first, keras.layers.InputLayer) else model._layers
    entry = first if isinstance(first, keras.layers.InputLayer) else keras.layers.InputLayer(batch_shape=shape)
    _reset_sequential(model, [entry, layer, *rest])


def _reset_sequential(model: Any, layers: list[Any]) -> None:
    model._layers = layers
    model._functional = None
    model.built = False
    model._maybe_rebuild()


def _run_anew(model: Any, behind: Mapping[int, Any], before: Mapping[int, Any]) -> None:
    """Draw the graph of a Functional model anew, with new layers behind inputs (by index) and before layers (by id)."""

    def called(operation: Any) -> Any:
        new = before.get(id(operation))
        return operation if new is None else lambda inputs, *args, **kwargs: operation(new(inputs), *args, **kwargs)

    compiled = {name: value for name, value in vars(model).items() if name in _TRAINER_STATE}
    inputs = [keras.Input(batch_shape=t.shape, dtype=t.dtype, name=t.name) for t in tree.flatten(model.inputs)]
    given = [behind[index](tensor) if index in behind else tensor for index, tensor in enumerate(inputs)]
    outputs = model._run_through_graph(given, operation_fn=called)
    structure = tree.pack_sequence_as(model._inputs_struct, inputs)
    name, trainable = model.name, model.trainable
    Functional.__init__(model, structure, outputs, name=name)
    model.trainable = trainable
    vars(model).update(compiled)


_TRAINER_STATE = {
    "optimizer", "_compile_loss", "_compile_metrics", "_loss_tracker", "compiled", "loss", "_run_eagerly", "_jit_compile",
    "steps_per_execution", "_compile_config", "history", "stop_training", "_distribute_strategy",
}  # fmt: skip
