"""Freeze BatchNormalization layers, so that they use their moving statistics instead of
those of the batch.
"""

from dataclasses import dataclass
from typing import ClassVar

from nanfix import Cause, Strategy, Tier
from nanfix.changes.change import Change
from nanfix.changes.layer_source import arguments_of_layers
from nanfix.model.undo import put


@dataclass(frozen=True)
class Frozen(Change):
    """Keep the weights of the layers at these addresses as they are."""

    layers: tuple[str, ...] = ()
    kind: ClassVar[str] = "frozen layers"

    @property
    def addresses(self):
        return frozenset(self.layers)

    @property
    def rebuilds(self):
        return frozenset(self.layers)

    def joined(self, later):
        return Frozen(tuple(dict.fromkeys((*self.layers, *later.layers))))

    def install(self, shop, plan):
        for address in self.layers:
            put(shop.repair, shop.layers[address], "trainable", False)

    def in_source(self, run, plan, call):
        yield from arguments_of_layers(
            run, call, {address: {"trainable": "False"} for address in self.layers}
        )


class FreezeNormalization(Strategy):
    """Let BatchNormalization layers compute (x - m) / sqrt(v + epsilon) with the moving
    m and v, and keep these.

    A batch whose values are all equal has a variance of 0; the moving v starts at 1 and stays
    there. Does not help when the inputs of the layer are not finite.

    Reference: Keras guide, Transfer learning & fine-tuning.
    """

    name = "freeze-normalization"
    tier = Tier.ARCHITECTURE
    treats = frozenset({Cause.BATCH_STATISTICS})
    reference = "Keras guide, Transfer learning & fine-tuning"

    def refusal(self, diagnosis, run, plan):
        return None if _normalizing(run) else "no BatchNormalization layer is trained"

    def space(self, hp, diagnosis, run, plan):
        return {"layers": _normalizing(run)}

    def apply(self, run, plan, *, layers):
        return plan.with_change(Frozen(tuple(layers)))

    def explain(self, params):
        return f"Freeze {', '.join(params['layers'])}."


def _normalizing(run):
    layers = run.members.items()
    return [
        address
        for address, layer in layers
        if type(layer).__name__ == "BatchNormalization" and layer.trainable
    ]
