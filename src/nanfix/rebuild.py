"""Put stock layers behind the inputs, in front of a layer or behind the output of the user's own model, in place.

Only how the layers are connected is exchanged; what else the user's object holds (metrics, other layers, what it was compiled
with) stays as it is, and closing `undo` connects the layers as they were.
"""

import gc
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import keras
import numpy as np
from keras import ops
from keras.src.models.functional import Functional, functional_like_constructor
from keras.src.ops.node import KerasHistory
from keras.src.utils.naming import auto_name

from nanfix.addresses import declared_inputs
from nanfix.kinds.scaling import Affine, Power, TargetScaling

Maker = Callable[[], Any]
CONNECTIONS = (
    "_inputs_struct", "_outputs_struct", "_inputs", "_outputs", "_nodes", "_nodes_by_depth", "_operations",
    "_operations_by_depth", "output_names",
)  # fmt: skip
STACK = ("_layers", "_functional", "_build_shapes_dict", "built")
KEEPING = (keras.layers.Wrapper, keras.layers.Bidirectional, keras.layers.RNN, keras.layers.StackedRNNCells)
COMPILED = ("train_function", "test_function", "predict_function")
SCALES = (1e-7, 1e18)  # a Normalization layer divides by no less, and holds the square


def can_rebuild(model: Any) -> bool:
    """Say whether layers can be added to this very object, and will be there when it is saved and loaded.

    Sequential and Functional models, but none with a `call` of its own, nor one that its own constructor makes anew.
    """
    if "call" in vars(model) or not _is_graph(model):
        return False
    return not isinstance(model, keras.Sequential) or model._functional is not None


def _is_graph(layer: Any) -> bool:
    """Say whether a layer is a model that consists of its connected layers, also when it is loaded."""
    if isinstance(layer, keras.Sequential):
        return type(layer).call is keras.Sequential.call
    return isinstance(layer, Functional) and type(layer).call is Functional.call and functional_like_constructor(type(layer))


def sharers(model: Any) -> list[Any]:
    """Return the models that compute with layers of this one: those nested in it, and others in this process."""
    own = model._flatten_layers(include_self=True, recursive=True)
    nested = [layer for layer in own if layer is not model and isinstance(layer, Functional | keras.Sequential)]
    known = {id(part) for layer in own for part in (layer, getattr(layer, "_functional", None))}
    gc.collect()  # graphs that nobody uses any more refer to themselves
    alive = [it for it in gc.get_objects() if issubclass(type(it), Functional | keras.Sequential) and id(it) not in known]
    layers = known - {id(layer) for layer in own if isinstance(layer, keras.layers.InputLayer)}
    return [*nested, *(it for it in alive if any(id(layer) in layers for layer in it.layers))]


def outputs_are_named(model: Any) -> bool:
    """Say whether losses, metrics or outputs go by the name of the last layer, which must then stay the last."""
    held = getattr(model, "_compile_config", None)
    given = {} if held is None else held.config
    parts = (getattr(model, "_outputs_struct", None), *(given.get(name) for name in ("loss", "metrics", "weighted_metrics")))
    return any(isinstance(part, dict) for part in parts)


def insert_at_ends(model: Any, front: Mapping[str, Sequence[Maker]], back: Sequence[Maker], undo: ExitStack) -> None:
    """Run inputs, by name, through new layers before everything else, and the single output through others.

    The new layers stand in the order given; all others keep their weights.
    """
    if isinstance(model, keras.Sequential):
        entry, *rest = model._layers
        given = [make() for makers in front.values() for make in makers]
        _restack(model, [entry, *given, *rest, *(make() for make in back)], undo)
    else:
        made = {name: [make() for make in makers] for name, makers in front.items()}
        _reconnect(model, made, {}, [make() for make in back], undo)
    _forget_compiled(model, undo)


def insert_before(model: Any, layers: Mapping[int, Any], make: Maker, undo: ExitStack) -> None:
    """Run what goes into each of the layers, also of a nested model, through a new layer; all layers keep their weights.

    `layers` are layers, each with a `container`, by their id.
    """
    owners: dict[int, tuple[Any, dict[int, Any]]] = {}
    for key, layer in layers.items():
        owner = container(model, layer)
        assert owner is not None, "asked only for layers that have a container"
        owners.setdefault(id(owner), (owner, {}))[1][key] = make()
    for owner, before in owners.values():
        if isinstance(owner, keras.Sequential):
            stack = [part for held in owner._layers for part in (before.get(id(held)), held) if part is not None]
            _restack(owner, stack, undo)
        else:
            _reconnect(owner, {}, before, [], undo)
    _forget_compiled(model, undo)


def container(model: Any, layer: Any) -> Any:
    """Return the model, this one or one nested in it, that can be rebuilt round that layer of its own; None if there is none."""
    owners = model._flatten_layers(include_self=True, recursive=True)
    return next((o for o in owners if can_rebuild(o) and any(held is layer for held in o.layers)), None)


def remade(model: Any, members: Mapping[str, Any]) -> dict[str, Any]:
    """Return by address the layers that the code of an owner makes anew when a saved model is loaded, each with that owner.

    What is changed about them is then gone. Models that are graphs, wrappers and recurrent layers keep what they hold.
    """
    found = {}
    for address in members:
        parts = address.split("/")
        owners = [model, *(members[path] for path in ("/".join(parts[:end]) for end in range(1, len(parts))) if path in members)]
        maker = next((owner for owner in owners if not (isinstance(owner, KEEPING) or _is_graph(owner))), None)
        if maker is not None:
            found[address] = maker
    return found


def layer_normalization() -> Any:
    """Return a layer without weights that gives its inputs the mean 0 and the variance 1 over the last axis, in float32."""
    return keras.layers.LayerNormalization(center=False, scale=False, dtype="float32")


def scaling(model: Any, name: str, change: Affine | Power) -> Maker:
    """Return a maker of what scales that input of `model` with stock layers or operations."""
    stock = isinstance(change, Affine) and all(SCALES[0] <= scale <= SCALES[1] for scale in change.scale)
    return normalization(change) if stock and isinstance(change, Affine) else _of_input(model, name, change, "scale_inputs")


def normalization(affine: Affine) -> Maker:
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


def imputation(model: Any, name: str, fills: tuple[float, ...]) -> Maker:
    """Return a maker of a small model of stock operations: where an input is NaN or inf, the fill of its feature.

    What goes in and comes out has the shape and type of that input of `model`; `fills` has a number per feature.
    """

    def filled(inputs: Any) -> Any:
        fill = np.asarray(fills, keras.backend.standardize_dtype(inputs.dtype))
        return ops.where(ops.isfinite(inputs), inputs, fill)

    return _of_input(model, name, filled, "impute_nonfinite")


def target_scaling(model: Any, change: TargetScaling) -> Maker:
    """Return a maker of a small model of stock operations that brings outputs back to the user's units, as `Gate` does.

    It gives the weights the gradient of the scaled targets, so that a training goes on as it went.
    """

    def unscaled(outputs: Any) -> Any:
        outputs = ops.cast(outputs, "float32") if outputs.dtype in ("float16", "bfloat16") else outputs
        back = change.scale ** (1.0 - change.degree)
        return ops.stop_gradient(change.center + change.scale * outputs) + back * (outputs - ops.stop_gradient(outputs))

    return lambda: _computed(model.outputs[0], unscaled, "unscale_targets")


def _of_input(model: Any, name: str, function: Callable[[Any], Any], called: str) -> Maker:
    return lambda: _computed(model.inputs[declared_inputs(model).index(name)], function, called)


def _computed(given: Any, function: Callable[[Any], Any], name: str) -> Any:
    """Return a small model that computes `function` of such a tensor."""
    inputs = keras.Input(batch_shape=given.shape, dtype=given.dtype)
    return keras.Model(inputs, function(inputs), name=auto_name(name))


def _restack(model: Any, layers: list[Any], undo: ExitStack) -> None:
    """Give a Sequential model these layers, its input layer the first of them."""
    undo.callback(vars(model).update, {name: vars(model)[name] for name in STACK})
    nodes = _Nodes.of([*model._layers, *layers])
    undo.callback(nodes.take_back)
    model._layers = layers
    model._maybe_rebuild()
    nodes.put_first()
    graph = model._functional
    vars(model)["_functional"] = Functional(graph._inputs_struct, graph._outputs_struct)  # which goes by the nodes' order


def _reconnect(model: Any, behind: Mapping[str, Any], before: Mapping[int, Any], last: list[Any], undo: ExitStack) -> None:
    """Connect a Functional model anew, with new layers behind inputs (by name), before layers (by id) and behind the output."""

    def called(operation: Any) -> Any:
        new = before.get(id(operation))
        return operation if new is None else lambda inputs, *args, **kwargs: operation(new(inputs), *args, **kwargs)

    def through(tensor: Any, layers: Sequence[Any]) -> Any:
        for layer in layers:
            tensor = layer(tensor)
        return tensor

    undo.callback(vars(model).update, {name: vars(model)[name] for name in CONNECTIONS})
    held = list(model._layers)
    undo.callback(model._layers.__setitem__, slice(None), held)
    nodes = _Nodes.of(model._operations)
    undo.callback(nodes.take_back)
    named = zip(declared_inputs(model), model.inputs, strict=True)
    given = [through(tensor, behind.get(name, ())) for name, tensor in named]
    outputs = keras.tree.map_structure(lambda tensor: through(tensor, last), model._run_through_graph(given, operation_fn=called))
    nodes.put_first()
    graph = Functional(model._inputs_struct, outputs)
    vars(model).update({name: vars(graph)[name] for name in CONNECTIONS})
    known = {id(layer) for layer in held}
    model._layers[:] = [*held, *(layer for layer in graph.layers if id(layer) not in known)]


class _Nodes:
    """The calls of layers on symbolic tensors, of which the first is what `layer.input` and `layer.output` go by."""

    def __init__(self, held: list[tuple[Any, list[Any], list[Any]]]):
        self._held = held

    @classmethod
    def of(cls, operations: Sequence[Any]) -> "_Nodes":
        unique = {id(operation): operation for operation in operations}.values()
        return cls([(o, list(o._inbound_nodes), list(o._outbound_nodes)) for o in unique])

    def put_first(self) -> None:
        """Let the calls made since stand in front of the earlier ones, so that `layer.output` is what the model computes now."""
        for operation, inbound, _ in self._held:
            known = {id(node) for node in inbound}
            new = [node for node in operation._inbound_nodes if id(node) not in known]
            if new and inbound and not inbound[0].is_input:
                _number(operation, [*new, *inbound])

    def take_back(self) -> None:
        for operation, inbound, outbound in self._held:
            _number(operation, inbound)
            operation._outbound_nodes[:] = outbound


def _number(operation: Any, nodes: list[Any]) -> None:
    operation._inbound_nodes[:] = nodes
    for index, node in enumerate(nodes):
        for place, tensor in enumerate(node.output_tensors):
            tensor._keras_history = KerasHistory(operation, index, place)


def _forget_compiled(model: Any, undo: ExitStack) -> None:
    undo.callback(vars(model).update, {name: getattr(model, name, None) for name in COMPILED})
    for name in COMPILED:
        setattr(model, name, None)
