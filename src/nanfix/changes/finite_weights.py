"""Initial weights that hold NaN or inf: these entries begin with other numbers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from nanfix.changes.change import Change


@dataclass(frozen=True)
class FiniteWeights(Change):
    """Draw the non-finite entries of weights with this mean and deviation, by the address of the
    layer and the name of the weight; all others stay.
    """

    starts: Mapping[str, Mapping[str, tuple[float, float]]] = field(default_factory=dict)
    kind: ClassVar[str] = "finite weights"
    order: ClassVar[int] = 10

    @property
    def addresses(self):
        return frozenset(self.starts)

    def graph_key(self, shop):
        return None

    def install(self, shop, plan):
        from nanfix.model.nonfinite_weights import own_weights  # loads TensorFlow

        for address, starts in self.starts.items():
            weights = own_weights(shop.layers[address])
            for name, (mean, deviation) in starts.items():
                values = np.asarray(weights[name])
                drawn = np.random.default_rng(0).normal(mean, deviation, values.shape)
                weights[name].assign(np.where(np.isfinite(values), values, drawn))

    def in_source(self, run, plan, call):
        from nanfix.model.nonfinite_weights import own_weights
        from nanfix.records.source_changes import UNKNOWN_CALL, NoPlace, WeightsChange

        if call.fit is None or not call.built:
            made = "the first step of fit makes the weights"
            yield NoPlace(reason=made if call.fit else UNKNOWN_CALL.format(what="fit"))
            return
        positions = {id(weight): number for number, weight in enumerate(run.model.weights)}
        starts = {
            positions[id(own_weights(run.members[address])[name])]: start
            for address, named in self.starts.items()
            for name, start in named.items()
        }
        yield WeightsChange(fit=call.fit, starts=starts)
