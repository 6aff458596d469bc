"""Normalization between layers: a LayerNormalization without weights in front of some."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from nanfix.changes.change import Change

if TYPE_CHECKING:
    from contextlib import ExitStack

    import keras


@dataclass(frozen=True)
class Normalized(Change):
    """Normalize what goes into the layers at these addresses."""

    layers: tuple[str, ...] = ()
    kind: ClassVar[str] = "normalization"
    order: ClassVar[int] = 60

    @property
    def addresses(self):
        return frozenset(self.layers)

    @property
    def rebuilds(self):
        return frozenset(self.layers)

    @property
    def may_change_predictions(self):
        return bool(self.layers)

    def joined(self, later):
        return Normalized(tuple(dict.fromkeys((*self.layers, *later.layers))))

    def graph_key(self, shop):
        return sorted(self.layers)

    def install_for_training(self, shop, plan):
        for address in self.layers:
            _normalize_inputs(shop.layers[address], shop.training)

    def hand_back(self, shop, plan, undo):
        from nanfix.changes.insertion import insert_before, layer_normalization

        chosen = {id(shop.layers[address]): shop.layers[address] for address in self.layers}
        insert_before(shop.model, chosen, layer_normalization, undo)
        return []

    def in_source(self, run, plan, call):
        from nanfix.changes.layer_source import float32_argument
        from nanfix.records.source_changes import UNKNOWN_CALL, LayerChange, NoPlace

        for address in (address for address in run.members if address in self.layers):
            layer = run.members[address]
            target = call.places.of(layer)
            if target is None:
                yield NoPlace(reason=UNKNOWN_CALL.format(what=f"layer {layer.name}"))
            else:
                expression = (
                    "keras.layers.LayerNormalization(center=False, "
                    f"scale=False{float32_argument()})"
                )
                yield LayerChange(
                    target=target, side="before", layers=[expression], role="normalized"
                )


def _normalize_inputs(layer: "keras.Layer", undo: "ExitStack") -> None:
    """Let the layer take its inputs normalized, as it will when a layer that does so is
    put in front of it.
    """
    import functools

    from nanfix.changes.insertion import layer_normalization
    from nanfix.model.undo import override

    call, normalize = layer.call, layer_normalization()

    @functools.wraps(call)
    def normalized(inputs, *args, **kwargs):
        return call(normalize(inputs), *args, **kwargs)

    override(undo, layer, "call", normalized)
