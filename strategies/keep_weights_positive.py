"""Keep weights above 0 that stand for a scale, a share or a variance."""

from nanfix.changes.least_weights import LeastWeights
from nanfix.records.cause import Cause
from nanfix.records.diagnosis import OF_A_DOMAIN
from nanfix.records.fallen_weight import FallenWeight
from nanfix.remedies.strategy import Strategy, Tier


class KeepWeightsPositive(Strategy):
    """After each step raise a weight to a share of what it began with, where it has fallen below.

    A constraint of Keras, as NonNeg is, but above 0: a deviation, a rate or a temperature that is
    a weight of a layer of your own goes through 0 as training moves it, and its logarithm, root or
    power is NaN from there on. Searches the share, mild to strong. A softplus or exp of the weight
    does the same for good. Does not help where it is not the weight, but what it is computed with,
    that leaves the domain.

    Reference: Bertsekas (1976), On the Goldstein-Levitin-Polyak gradient projection method, IEEE
    Trans. Automatic Control 21; keras.constraints.NonNeg.
    """

    name = "keep-weights-positive"
    tier = Tier.NUMERICS
    treats = OF_A_DOMAIN | {Cause.GRADIENT_SINGULARITY}
    instead_of = frozenset({"guard-unsafe-operations"})
    reference = "Bertsekas (1976), IEEE Trans. Automatic Control 21; keras.constraints.NonNeg"

    def answers(self, diagnosis):
        return bool(diagnosis.fallen_weights) and super().answers(diagnosis)

    def refusal(self, diagnosis, run, plan):
        if not diagnosis.fallen_weights:
            return "no weight that began above 0 has fallen below"
        gone = next((each for each in diagnosis.fallen_weights if not _is_held(each, run)), None)
        return gone and f"the model has no {gone.where}"

    def space(self, hp, diagnosis, run, plan):
        began: dict[str, dict[str, float]] = {}
        for each in diagnosis.fallen_weights:
            began.setdefault(each.address, {})[each.name] = each.began
        return {"began": began, "share": hp.Choice("share", [1e-3, 1e-2, 1e-1])}

    def apply(self, run, plan, *, began, share):
        return plan.with_change(LeastWeights(_least(began, share)))

    def explain(self, params):
        least = _least(params["began"], params["share"])
        held = [
            f"{FallenWeight(address, name, number, number).where} at {number:.3g} or above"
            for address, named in least.items()
            for name, number in named.items()
        ]
        return (
            f"Keep {', '.join(held)} by a constraint; a saved model does not hold it, so put it "
            "into the source."
        )

    def snippet(self, params):
        return "\n".join(
            f'self.add_weight(name="{name}", constraint=lambda w: keras.ops.maximum(w, {number:g}))'
            for named in _least(params["began"], params["share"]).values()
            for name, number in named.items()
        )


def _is_held(weight: FallenWeight, run) -> bool:
    from nanfix.model.nonfinite_weights import own_weights  # loads TensorFlow

    layer = run.members.get(weight.address) if weight.address else run.model
    return layer is not None and weight.name in own_weights(layer)


def _least(began, share):
    return {
        address: {name: float(f"{share * number:.3g}") for name, number in named.items()}
        for address, named in began.items()
    }
