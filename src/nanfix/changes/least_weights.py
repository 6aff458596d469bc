"""Weights that stay above a least value: a constraint brings them back after each step."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from nanfix.changes.change import Change

if TYPE_CHECKING:
    from nanfix.records.source_changes import SourceChange
    from nanfix.source.fit_call import FitCall


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
        from nanfix.records.source_changes import ArgumentChange
        from nanfix.source.weight_calls import made_by

        elsewhere: dict[int | None, float] = {}
        positions = {id(weight): number for number, weight in enumerate(run.model.weights)}
        for address, named in self.least.items():
            layer = run.members[address] if address else run.model
            alike = [each for each in run.members.values() if type(each) is type(layer)]
            for name, least in named.items():
                made, weight = made_by(call.places, layer, name), own_weights(layer).get(name)
                if made is not None and len(alike) < 2:
                    value = f"lambda weight: keras.ops.maximum(weight, {least!r})"
                    yield ArgumentChange(target=made, name="constraint", value=value)
                else:
                    elsewhere[positions.get(id(weight))] = least
        if elsewhere:
            yield _in_front_of_fit(elsewhere, call)


def _in_front_of_fit(least: Mapping[int | None, float], call: "FitCall") -> "SourceChange":
    """Return the change of the weights of a built model by their positions."""
    from nanfix.records.source_changes import UNKNOWN_CALL, ConstraintChange, NoPlace

    known = {position: number for position, number in least.items() if position is not None}
    if call.fit is None or len(known) < len(least):
        made = "the first step of fit makes the weights"
        return NoPlace(reason=made if call.fit else UNKNOWN_CALL.format(what="fit"))
    return ConstraintChange(fit=call.fit, least=known)


def held_at(least: float, before: Callable[[Any], Any] | None) -> Callable[[Any], Any]:
    """Return the constraint that lets no number fall below the least, after the one before."""
    from keras import ops

    def constraint(weight: Any) -> Any:
        return ops.maximum(weight if before is None else before(weight), least)

    return constraint
