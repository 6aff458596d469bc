"""Attributes of layers: activation, constants, constraint, precision, what a
Normalization layer was adapted to.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from nanfix.changes.change import Change
from nanfix.model.constraints import held_by_constraints, kernels

if TYPE_CHECKING:
    from contextlib import ExitStack

    import keras

    from nanfix.changes.columns import Columns
    from nanfix.records.source_changes import SourceChange
    from nanfix.source.fit_call import FitCall

SET_TOGETHER = (
    "the mean and variance of {layer} are set with its weights: give set_weights gamma, beta, "
    "mean and variance in this order"
)


# Which weights are held below a norm, by the name of the attribute.
MAX_NORMS = {"max_norm": kernels, "max_norm_of_all": held_by_constraints}


@dataclass(frozen=True)
class LayerAttributes(Change):
    """Give layers other attributes, by address.

    `max_norm` stands for the constraint of that name on every kernel, `max_norm_of_all` for one on
    every weight that a constraint can hold, `statistics`, a pair (mean, variance), for what a
    Normalization layer is adapted to, or another one keeps; an `activation` may be one for each of
    the columns (`changes.columns`). The layers keep all of it.
    """

    attributes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    kind: ClassVar[str] = "layers"
    order: ClassVar[int] = 10

    @classmethod
    def of(cls, addresses: Iterator[str] | list[str], **attributes: Any) -> "LayerAttributes":
        """Return the change that gives every layer at these addresses the same attributes."""
        return cls(dict.fromkeys(addresses, attributes))

    @property
    def addresses(self):
        return frozenset(self.attributes)

    @property
    def rebuilds(self):
        # Statistics are saved with the weights.
        own = self.attributes.items()
        return frozenset(address for address, given in own if {*given} - {"statistics"})

    def joined(self, later):
        addresses = {**self.attributes, **later.attributes}
        return LayerAttributes(
            {a: {**self.attributes.get(a, {}), **later.attributes.get(a, {})} for a in addresses}
        )

    def graph_key(self, shop):
        return sorted(
            (address, sorted(attributes.items())) for address, attributes in self.attributes.items()
        )

    def install(self, shop, plan):
        for address, attributes in self.attributes.items():
            for name, value in attributes.items():
                _change(shop.layers[address], name, value, shop.repair)

    def in_source(self, run, plan, call):
        from nanfix.changes.layer_source import arguments_of_layers
        from nanfix.records.source_changes import NoPlace

        arguments, definitions = {}, {}
        for address, attributes in self.attributes.items():
            changed = dict(attributes)
            statistics = changed.pop("statistics", None)  # what it is adapted to is no argument
            if statistics is not None:
                yield from _adapted_in_source(run.members[address], statistics, call)
            by_name = isinstance(changed.get("activation", ""), str)
            columns = None if by_name else changed.pop("activation")
            arguments[address] = _arguments(changed, run.members[address])
            if columns is not None:
                function = _by_column(run.members[address], columns)
                if function is None:
                    yield NoPlace(reason=f"{address} computes an activation of your own")
                else:
                    arguments[address]["activation"] = function[0]
                    definitions[function[0]] = function[1]
        yield from arguments_of_layers(run, call, arguments, definitions)


def _change(layer: "keras.Layer", name: str, value: Any, undo: "ExitStack") -> None:
    import keras  # loads TensorFlow

    from nanfix.changes.columns import by_columns
    from nanfix.model.activations import change_activation
    from nanfix.model.normalization import adapt_to, statistics
    from nanfix.model.undo import put

    if name == "statistics":
        undo.callback(adapt_to, layer, *statistics(layer))
        adapt_to(layer, *value)
    elif name in MAX_NORMS:
        constraint = keras.constraints.MaxNorm(value)
        for weight, argument in MAX_NORMS[name](layer).items():
            put(undo, layer, argument, constraint)
            put(undo, getattr(layer, weight), "constraint", constraint)
    elif name == "activation":
        by_name = isinstance(value, str)
        function = keras.activations.get(value) if by_name else by_columns(layer, value)
        change_activation(undo, layer, function)
    else:
        put(
            undo,
            layer,
            name,
            keras.activations.get(value) if name.endswith("activation") else value,
        )


def _arguments(changed: Mapping[str, Any], layer: "keras.Layer") -> dict[str, str]:
    """Return the arguments, as source, that give a layer the changed attributes."""
    from nanfix.changes.layer_source import literal

    arguments = {}
    for name, value in changed.items():
        if name in MAX_NORMS:
            held = MAX_NORMS[name](layer).values()
            arguments.update(dict.fromkeys(held, f"keras.constraints.MaxNorm({value:g})"))
        else:
            arguments["dtype" if name == "dtype_policy" else name] = literal(value)
    return arguments


def _by_column(layer: "keras.Layer", columns: "Columns") -> tuple[str, str] | None:
    """Return the function that computes these activations, by its name, and its definition; None
    where the one that the layer has is not Keras' own.
    """
    import keras  # loads TensorFlow

    from nanfix.changes.columns import in_source
    from nanfix.model.activations import activation_name

    present = activation_name(layer)
    return in_source(columns, present) if hasattr(keras.activations, present) else None


def _adapted_in_source(
    layer: "keras.Layer", statistics: tuple[Sequence[float], Sequence[float]], call: "FitCall"
) -> "Iterator[SourceChange]":
    from nanfix.records.source_changes import UNKNOWN_CALL, AdaptChange, NoPlace

    target = call.places.of(layer)
    if not hasattr(layer, "adapt_mean"):
        yield NoPlace(reason=SET_TOGETHER.format(layer=layer.name))
    elif target is None:
        yield NoPlace(reason=UNKNOWN_CALL.format(what=f"layer {layer.name}"))
    elif _is_by_feature(layer):
        yield AdaptChange(target=target, fill=list(statistics[0]))
    else:
        yield NoPlace(reason=f"{layer.name} has an axis of its own")


def _is_by_feature(layer: Any) -> bool:
    """Say whether a Normalization has a mean and a variance for each index of the last
    axis, and for nothing else.
    """
    rank = len(layer.get_build_config()["input_shape"])
    return {axis % rank for axis in layer.axis} == {rank - 1}
