"""Put stock layers behind the inputs, in front of a layer or behind outputs of the
user's own model, in place.

Only how the layers are connected is exchanged; what else the user's object holds
(metrics, other layers, what it was compiled with) stays as it is, and closing `undo`
connects the layers as they were.
"""

import gc
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import keras
import numpy as np
from keras import ops

from nanfix.changes.columns import Columns, of_columns
from nanfix.changes.maps import Affine, Mixed, Power, TargetScaling
from nanfix.model.addresses import Member, declared_inputs
from nanfix.model.outputs import keys_of, last_names
from nanfix.model.undo import put
from nanfix.private.graphs import (
    giver_of,
    is_connected,
    is_graph,
    outdated_graphs,
    reconnect,
    restack,
)
from nanfix.private.objects import (
    COMPILED,
    all_layers,
    compile_config,
    direct_layers,
    graph_of,
    outputs_struct,
)

Maker = Callable[[], keras.Layer]
KEEPING = (
    keras.layers.Wrapper,
    keras.layers.Bidirectional,
    keras.layers.RNN,
    keras.layers.StackedRNNCells,
)
INNER = "{name}_inner"  # a layer that has given its name to the one behind it
SCALES = (1e-7, 1e18)  # a Normalization layer divides by no less, and holds the square


def can_rebuild(model: keras.Model) -> bool:
    """Say whether layers can be added to this very object, and will be there when it is
    saved and loaded.

    Sequential and Functional models, but none with a `call` of its own, nor one that its own
    constructor makes anew.
    """
    if "call" in vars(model) or not is_graph(model):
        return False
    return not isinstance(model, keras.Sequential) or graph_of(model) is not None


def sharers(model: keras.Model, apart: Iterable[Member] = ()) -> list[Any]:
    """Return the models that compute with weights of layers of this one, some `apart`: those nested
    in it, and others in this process.
    """
    own = all_layers(model)
    nested = [layer for layer in own if layer is not model and is_connected(layer)]
    known = {
        id(part) for layer in own for part in (layer, graph_of(layer), *outdated_graphs(layer))
    }
    gc.collect()  # graphs that nobody uses any more refer to themselves
    alive = [it for it in gc.get_objects() if is_connected(it) and id(it) not in known]
    shared = {id(layer) for layer in own if layer.weights and not direct_layers(layer)}
    shared -= {id(layer) for layer in apart}
    found = [*nested, *alive]
    return [it for it in found if any(id(layer) in shared for layer in all_layers(it))]


def has_own_names(model: keras.Model) -> bool:
    """Say whether each output has a name of its own, which a layer behind it can take over."""
    names = last_names(model)
    return len({*names}) == len(names)


def are_named(model: keras.Model) -> bool:
    """Say whether losses, metrics or what is logged go by the names of the last layers; of a dict
    they go by its keys.
    """
    keys = keys_of(outputs_struct(model))
    if keys and {*keys} != {*model.output_names}:
        return False
    compiled = compile_config(model)
    given = {} if compiled is None else compiled.config
    parts = (
        outputs_struct(model),
        *(given.get(name) for name in ("loss", "metrics", "weighted_metrics")),
    )
    return len(model.outputs) > 1 or any(isinstance(part, dict) for part in parts)


def insert_at_ends(
    model: keras.Model,
    front: Mapping[str, Sequence[Maker]],
    back: Mapping[int, Maker],
    undo: ExitStack,
) -> None:
    """Run inputs, by name, through new layers before everything else, and outputs, by their
    position, through one each.

    The new layers stand in the order given; all others keep their weights.
    """
    made = {name: [make() for make in makers] for name, makers in front.items()}
    last = {index: make() for index, make in back.items()}
    _take_over_names(model, last, undo)
    if isinstance(model, keras.Sequential):
        entry, *rest = direct_layers(model)
        given = [layer for layers in made.values() for layer in layers]
        restack(model, [entry, *given, *rest, *last.values()], undo)
    else:
        behind = [made.get(name, ()) for name in declared_inputs(model)]
        reconnect(model, behind, {}, {index: [layer] for index, layer in last.items()}, undo)
    _forget_compiled(model, undo)


def insert_behind(model: keras.Model, layers: Mapping[int, keras.Layer], undo: ExitStack) -> None:
    """Run outputs, by their position, through new layers. What of the model is compiled is left to
    the caller.
    """
    _take_over_names(model, layers, undo)
    if isinstance(model, keras.Sequential):
        restack(model, [*direct_layers(model), *layers.values()], undo)
    else:
        last = {at: [layer] for at, layer in layers.items()}
        reconnect(model, [()] * len(model.inputs), {}, last, undo)


def _take_over_names(
    model: keras.Model, layers: Mapping[int, keras.Layer], undo: ExitStack
) -> None:
    """Give new layers behind outputs the names of the layers that have given these, where losses,
    metrics or what is logged go by them; so it is in a model that is saved and loaded, too.
    """
    if not are_named(model):
        return
    for index, layer in layers.items():
        giver = giver_of(model.outputs[index])
        layer.name = giver.name
        put(undo, giver, "name", INNER.format(name=giver.name))


def insert_before(
    model: keras.Model, layers: Mapping[int, keras.Layer], make: Maker, undo: ExitStack
) -> None:
    """Run what goes into each of the layers, also of a nested model, through a new layer; all
    layers keep their weights.

    `layers` are layers, each with a `container`, by their id.
    """
    owners: dict[int, tuple[Any, dict[int, keras.Layer]]] = {}
    for key, layer in layers.items():
        owner = container(model, layer)
        assert owner is not None, "asked only for layers that have a container"
        owners.setdefault(id(owner), (owner, {}))[1][key] = make()
    for owner, before in owners.values():
        if isinstance(owner, keras.Sequential):
            stack = [
                part
                for inner in direct_layers(owner)
                for part in (before.get(id(inner)), inner)
                if part is not None
            ]
            restack(owner, stack, undo)
        else:
            reconnect(owner, [()] * len(owner.inputs), before, {}, undo)
    _forget_compiled(model, undo)


def container(model: keras.Model, layer: keras.layers.Layer) -> Any:
    """Return the model, this one or one nested in it, that can be rebuilt round that layer of its
    own; None if there is none.
    """
    owners = all_layers(model)
    return next(
        (o for o in owners if can_rebuild(o) and any(inner is layer for inner in o.layers)), None
    )


def remade(model: keras.Model, members: Mapping[str, Member]) -> dict[str, keras.Layer]:
    """Return by address the layers that the code of an owner makes anew when a saved model is
    loaded, each with that owner.

    What is changed about them is then gone. Models that are graphs, wrappers and recurrent layers
    keep what they hold.
    """
    found = {}
    for address in members:
        parts = address.split("/")
        owners = [
            model,
            *(
                members[path]
                for path in ("/".join(parts[:end]) for end in range(1, len(parts)))
                if path in members
            ),
        ]
        maker = next(
            (owner for owner in owners if not (isinstance(owner, KEEPING) or is_graph(owner))), None
        )
        if maker is not None:
            found[address] = maker
    return found


def layer_normalization() -> keras.layers.LayerNormalization:
    """Return a layer without weights that gives its inputs the mean 0 and the variance 1 over the
    last axis, in float32.
    """
    return keras.layers.LayerNormalization(center=False, scale=False, dtype="float32")


def scaling(model: keras.Model, name: str, change: Affine | Power) -> Maker:
    """Return a maker of what scales that input of `model` with stock layers or operations."""
    stock = isinstance(change, Affine) and all(
        SCALES[0] <= scale <= SCALES[1] for scale in change.scale
    )
    return (
        normalization(change)
        if stock and isinstance(change, Affine)
        else _of_input(model, name, change, "scale_inputs")
    )


def normalization(affine: Affine) -> Maker:
    """Return a maker of the stock layer that computes (x - center) / scale, in float32: raw inputs
    may exceed half precision.
    """

    def make() -> keras.layers.Normalization:
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


def imputation(
    model: keras.Model,
    name: str,
    fills: tuple[float, ...],
    missing_values: tuple[float, ...] | None,
) -> Maker:
    """Return a maker of a small model of stock operations: where an input is NaN, inf or its
    missing value, the fill of its feature.

    What goes in and comes out has the shape and type of that input of `model`; `fills` and
    `missing_values` have a number per feature.
    """

    def filled(inputs: keras.KerasTensor) -> Any:
        kind = keras.backend.standardize_dtype(inputs.dtype)
        known = ops.isfinite(inputs)
        if missing_values is not None:
            missing = np.asarray(missing_values, kind)
            known = ops.logical_and(known, ops.not_equal(inputs, missing))
        return ops.where(known, inputs, np.asarray(fills, kind))

    return _of_input(model, name, filled, "impute_nonfinite")


def activation_behind(tensor: Any, wanted: str | Columns | Mixed) -> keras.Layer:
    """Return a layer of stock layers that computes an activation of such a tensor, or one of each
    of its columns.
    """
    dtype = keras.backend.standardize_dtype(tensor.dtype)
    if isinstance(wanted, Mixed):
        return keras.layers.Rescaling(1.0 - wanted.share, wanted.offset, dtype=dtype)
    if isinstance(wanted, str):
        return keras.layers.Activation(wanted, dtype=dtype)
    given = keras.Input(batch_shape=tensor.shape, dtype=dtype)
    return of_columns(given, wanted, _unique("output_columns"), dtype=dtype)


def target_scaling(model: keras.Model, index: int, change: TargetScaling) -> Maker:
    """Return a maker of a small model of stock operations that brings the output at `index` back to
    the user's units, as `Gate` does.

    It gives the weights the gradient of the scaled targets, so that a training goes on as it went.
    """

    def unscaled(outputs: Any) -> Any:
        outputs = (
            ops.cast(outputs, "float32") if outputs.dtype in ("float16", "bfloat16") else outputs
        )
        # Plain numbers where they will do, as the configuration of a saved model is read.
        one = change.width == 1
        center, scale, back = ((float(each[0]) if one else each) for each in change.factors)
        gradient_only = outputs - ops.stop_gradient(outputs)
        # The symbolic tensor first, since numpy would take an array's product for its own.
        return ops.stop_gradient(outputs * scale + center) + gradient_only * back

    return lambda: _computed(model.outputs[index], unscaled, "unscale_targets")


def _of_input(model: keras.Model, name: str, function: Callable[[Any], Any], called: str) -> Maker:
    return lambda: _computed(model.inputs[declared_inputs(model).index(name)], function, called)


def _computed(given: Any, function: Callable[[Any], Any], name: str) -> keras.Model:
    """Return a small model that computes `function` of such a tensor."""
    inputs = keras.Input(batch_shape=given.shape, dtype=given.dtype)
    return keras.Model(inputs, function(inputs), name=_unique(name))


def _unique(name: str) -> str:
    """Return a name for a model as Keras counts the names that it gives."""
    count = keras.backend.get_uid(name) - 1
    return f"{name}_{count}" if count else name


def _forget_compiled(model: keras.Model, undo: ExitStack) -> None:
    undo.callback(model.__dict__.update, {name: getattr(model, name, None) for name in COMPILED})
    for name in COMPILED:
        setattr(model, name, None)
