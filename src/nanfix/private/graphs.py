"""Connect the layers of a Functional or Sequential model anew, in the user's own object. Loads
Keras and TensorFlow.

The public way, `keras.models.clone_model`, makes another object with other layers.
"""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any, Self

import keras

# The class of models that are connected layers, and whether a subclass is made anew of
# them when it is loaded.
from keras.src.models.functional import Functional, functional_like_constructor

# Where a symbolic tensor comes from.
from keras.src.ops.node import KerasHistory

from nanfix.private.objects import direct_layers

# What of a model says how its layers are connected: of a Functional one, and of a Sequential one.
CONNECTIONS = (
    "_inputs_struct", "_outputs_struct", "_inputs", "_outputs", "_nodes", "_nodes_by_depth",
    "_operations", "_operations_by_depth", "output_names",
)  # fmt: skip
STACK = ("_layers", "_functional", "_build_shapes_dict", "built")

Layers = Sequence[keras.Layer]


def is_graph(layer: object) -> bool:
    """Say whether a layer is a model that consists of its connected layers, also when
    it is loaded.
    """
    if isinstance(layer, keras.Sequential):
        return type(layer).call is keras.Sequential.call
    return (
        isinstance(layer, Functional)
        and type(layer).call is Functional.call
        and functional_like_constructor(type(layer))
    )


def is_connected(layer: object) -> bool:
    """Say whether a layer is a Functional or a Sequential model, by whatever code it is
    computed.
    """
    return issubclass(type(layer), Functional | keras.Sequential)


def outdated_graphs(layer: object) -> list[Any]:
    """Return what a Sequential model was before more layers were added to it: Keras goes on
    tracking that, and nobody computes with it.
    """
    if not isinstance(layer, keras.Sequential):
        return []
    _, tracked = layer._tracker.config["layers"]
    own = {id(each) for each in layer.layers}
    return [each for each in tracked if isinstance(each, Functional) and id(each) not in own]


def restack(model: Any, layers: Layers, undo: ExitStack) -> None:
    """Give a Sequential model these layers, its input layer the first of them, until
    `undo` is closed.
    """
    undo.callback(vars(model).update, {name: vars(model)[name] for name in STACK})
    nodes = _Nodes.of([*direct_layers(model), *layers])
    undo.callback(nodes.take_back)
    model._layers = list(layers)
    model._maybe_rebuild()
    nodes.put_first()
    graph = model._functional
    # Which goes by the nodes' order.
    vars(model)["_functional"] = Functional(graph._inputs_struct, graph._outputs_struct)


def reconnect(
    model: Any,
    behind: Sequence[Layers],
    before: Mapping[int, keras.Layer],
    last: Mapping[int, Layers],
    undo: ExitStack,
) -> None:
    """Connect a Functional model with new layers behind each input, before layers (by
    id) and behind outputs (by position).

    Closing `undo` connects it as it was.
    """

    def called(operation: keras.Operation) -> Any:
        new = before.get(id(operation))
        return (
            operation
            if new is None
            else lambda inputs, *args, **kwargs: operation(new(inputs), *args, **kwargs)
        )

    undo.callback(vars(model).update, {name: vars(model)[name] for name in CONNECTIONS})
    tracked = direct_layers(model)
    layers_before = list(tracked)
    undo.callback(tracked.__setitem__, slice(None), layers_before)
    nodes = _Nodes.of(model.operations)
    undo.callback(nodes.take_back)
    given = [_through(tensor, layers) for tensor, layers in zip(model.inputs, behind, strict=True)]
    made = model._run_through_graph(given, operation_fn=called)
    ends = [_through(end, last.get(at, ())) for at, end in enumerate(keras.tree.flatten(made))]
    outputs = keras.tree.pack_sequence_as(made, ends)
    nodes.put_first()
    graph = Functional(model._inputs_struct, outputs)
    vars(model).update({name: vars(graph)[name] for name in CONNECTIONS})
    known = {id(layer) for layer in layers_before}
    tracked[:] = [*layers_before, *(layer for layer in graph.layers if id(layer) not in known)]


def calls_of(operation: keras.Operation) -> list[Any]:
    """Return the very list of the calls of a layer on symbolic tensors, of which only the outputs
    of the first are public.
    """
    return operation._inbound_nodes


def giver_of(tensor: keras.KerasTensor) -> keras.Operation:
    """Return the layer, or other operation, that computes a symbolic tensor."""
    return tensor._keras_history.operation  # pyright: ignore[reportAttributeAccessIssue]


def _through(tensor: keras.KerasTensor, layers: Layers) -> keras.KerasTensor:
    for layer in layers:
        tensor = layer(tensor)
    return tensor


class _Nodes:
    """The calls of layers on symbolic tensors, of which the first is what `layer.input` and
    `layer.output` go by.
    """

    def __init__(self, before: list[tuple[keras.Operation, list[Any], list[Any]]]):
        self._before = before

    @classmethod
    def of(cls, operations: Sequence[keras.Operation]) -> Self:
        unique = {id(operation): operation for operation in operations}.values()
        return cls([(o, list(calls_of(o)), list(o._outbound_nodes)) for o in unique])

    def put_first(self) -> None:
        """Let the calls made since stand in front of the earlier ones, so that `layer.output` is
        what the model computes now.
        """
        for operation, inbound, _ in self._before:
            known = {id(node) for node in inbound}
            new = [node for node in calls_of(operation) if id(node) not in known]
            if new and inbound and not inbound[0].is_input:
                _number(operation, [*new, *inbound])

    def take_back(self) -> None:
        for operation, inbound, outbound in self._before:
            _number(operation, inbound)
            operation._outbound_nodes[:] = outbound


def _number(operation: keras.Operation, nodes: list[Any]) -> None:
    calls_of(operation)[:] = nodes
    for index, node in enumerate(nodes):
        for place, tensor in enumerate(node.output_tensors):
            tensor._keras_history = KerasHistory(operation, index, place)
