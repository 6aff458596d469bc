"""Weights that stay above a least value: a constraint brings them back after each step."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from nanfix.changes.change import Change


@dataclass(frozen=True)
class LeastWeights(Change):
    """Hold weights at their least value or above, by the address of the layer, "" for the model
    itself, and the name of the weight. A constraint that a weight has already comes first.
    """

    least: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    kind: ClassVar[str] = "least weights"
    order: ClassVar[int] = 12

    @property
    def addresses(self):
        return frozenset(self.least) - {""}

    def is_evaluated(self, shop):
        return False

    def install(self, shop, plan):
        from nanfix.model.nonfinite_weights import own_weights  # loads TensorFlow

        for address, named in self.least.items():
            weights = own_weights(shop.layers[address] if address else shop.model)
            for name, least in named.items():
                weight, before = weights[name], weights[name].constraint
                shop.repair.callback(setattr, weight, "constraint", before)
                weight.constraint = held_at(least, before)

    def in_source(self, run, plan, call):
        from nanfix.model.nonfinite_weights import own_weights
        from nanfix.records.source_changes import UNKNOWN_CALL, ConstraintChange, NoPlace

        if call.fit is None or not call.built:
            made = "the first step of fit makes the weights"
            yield NoPlace(reason=made if call.fit else UNKNOWN_CALL.format(what="fit"))
            return
        positions = {id(weight): number for number, weight in enumerate(run.model.weights)}
        least = {
            positions[id(own_weights(run.members[address] if address else run.model)[name])]: number
            for address, named in self.least.items()
            for name, number in named.items()
        }
        yield ConstraintChange(fit=call.fit, least=least)


def held_at(least: float, before: Callable[[Any], Any] | None) -> Callable[[Any], Any]:
    """Return the constraint that lets no number fall below the least, after the one before."""
    from keras import ops

    def constraint(weight: Any) -> Any:
        return ops.maximum(weight if before is None else before(weight), least)

    return constraint
