"""Names for the layers and the inputs of a model that mean the same in every session.

Keras counts the names it gives itself over the whole process: the only Dense layer of a
model is "dense", or "dense_7" in a notebook that has made seven before. An address
counts among the siblings of a layer instead.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from nanfix.private.objects import direct_layers, graph_of, inputs_struct, is_layer

if TYPE_CHECKING:
    import keras

Member = Any  # a layer, or an operation of a Functional model, which is a node like a layer
SINGLE = "input[0]"  # the one input of a model, where nobody has named it


def walk(model: "keras.Model") -> Iterator[tuple[str, Member]]:
    """Yield (address, layer) for every layer of the model, nested ones behind their owner, in the
    order they were added.

    An address is the path of the layer's owners and its name, or, where Keras has named it, its
    class and its place among its siblings of that class: "encoder/dense[1]". Of a layer with
    several owners the first counts. Input layers are left out, as Keras leaves them out of the
    layers of a Sequential model. Operations on symbolic tensors (`keras.ops.log(x)` in a Functional
    model), which are nodes like layers, come after the layers.
    """
    seen = {id(model)}
    owners = [("", model)]
    for address, layer in _below(model, "", seen):
        owners.append((f"{address}/", layer))
        yield address, layer
    for path, owner in owners:
        nodes = [node for node in getattr(owner, "operations", []) if not is_layer(node)]
        for name, node in zip(distinct(nodes, _given_name), nodes, strict=True):
            if id(node) not in seen:
                seen.add(id(node))
                yield path + name, node


def described(layer: "keras.Operation") -> list[Any]:
    """Return what distinguishes a layer from another at the same address: its class and the
    shapes of its weights, none if unbuilt.
    """
    return [type(layer).__name__, [list(weight.shape) for weight in getattr(layer, "weights", [])]]


def _below(owner: "keras.Layer", path: str, seen: set[int]) -> "Iterator[tuple[str, keras.Layer]]":
    layers = [layer for layer in direct_layers(owner) if type(layer).__name__ != "InputLayer"]
    for name, layer in zip(distinct(layers, _given_name), layers, strict=True):
        if id(layer) not in seen:
            seen.add(id(layer))
            yield path + name, layer
            yield from _below(layer, f"{path}{name}/", seen)


def distinct(things: Sequence[Any], name_of: Callable[[Any], tuple[str, bool]]) -> list[str]:
    """Return a name for each: its own where that is given and the only one, else with its place
    among those of that name.

    `name_of` returns a name, and whether a person has given it.
    """
    named = [name_of(thing) for thing in things]
    counts, met = Counter(named), Counter[tuple[str, bool]]()
    names = []
    for name, given in named:
        names.append(name if given and counts[name, given] == 1 else f"{name}[{met[name, given]}]")
        met[name, given] += 1
    return names


def _given_name(layer: "keras.Operation") -> tuple[str, bool]:
    """Return the name of a layer and True where its user chose it, else the one that Keras begins
    such names with and False.
    """
    from nanfix.private.keras import to_snake_case  # loads TensorFlow

    own = to_snake_case(type(layer).__name__)
    automatic = re.fullmatch(rf"((?:forward_|backward_)?{re.escape(own)})(_\d+)?", layer.name)
    return (automatic[1], False) if automatic else (layer.name, True)


def input_names(model: "keras.Model", given: Any) -> tuple[str | None, ...]:
    """Return for each leaf of what the model is `given`, flattened, the name of the input it
    reaches; None if it reaches none.

    A Functional model's inputs are matched as Keras matches them: a dict by name where the model
    was built from a list, the keys that no input has being ignored, everything else by its place.
    Any other model is known by what it is given alone.
    """
    from keras import tree

    graph = graph_of(model)
    if graph is None:
        return tuple(distinct([path for path, _ in tree.flatten_with_path(given)], _path_name))
    tensors, struct = graph.inputs, inputs_struct(graph)
    names = declared_inputs(model)
    if isinstance(given, dict) and not isinstance(struct, dict):
        by_key = dict(zip((tensor.name for tensor in tensors), names, strict=True))
        if by_key.keys() <= given.keys():
            keyed = [(path[0], len(path)) for path, _ in tree.flatten_with_path(given)]
            return tuple(by_key.get(key) if depth == 1 else None for key, depth in keyed)
    return tuple(
        names[index] if index < len(names) else None for index in range(len(tree.flatten(given)))
    )


def declared_inputs(model: "keras.Model") -> list[str]:
    """Return the names of the inputs that a Functional or built Sequential model declares,
    flattened; empty for any other.
    """
    graph = graph_of(model)
    return [] if graph is None else distinct(graph.inputs, _tensor_name)


def _tensor_name(tensor: "keras.KerasTensor") -> tuple[str, bool]:
    automatic = re.fullmatch(r"(input_layer|input|keras_tensor)(_\d+)?", tensor.name)
    return ("input", False) if automatic else (tensor.name, True)


def _path_name(path: tuple[str | int, ...]) -> tuple[str, bool]:
    named = [str(key) for key in path if isinstance(key, str)]
    return ("/".join(named), len(named) == len(path)) if named else ("input", False)
