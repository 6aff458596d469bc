"""Replace NaN and inf in a constant that the loss or a layer computes with."""

from nanfix.changes.guards import Guard, Guards, refusal_at
from nanfix.records.cause import Cause
from nanfix.records.nonfinite_constant import KINDS, written
from nanfix.records.unsafe_operations import CONSTANT
from nanfix.remedies.strategy import Strategy, Tier


class ReplaceNonfiniteConstants(Strategy):
    """Put finite numbers in the place of those of a constant that are not: for -inf its least
    finite number, for inf the greatest, for NaN their mean.

    A constant is an array that the loss or a layer holds, and neither data nor a weight: the log of
    counts of which one is 0, class weights with an empty class, a mean over a column with a hole.
    What stands for -inf is so the log of the smallest share that was ever counted. Masks, which
    hold nothing but 0 and infinities, are left as they are. The change stays with the model object;
    a saved model does not hold it, so the source should be edited as the snippet says. Does not
    help where the constant has no finite number, nor when the model runs eagerly.

    Reference: Jurafsky & Martin (2025), Speech and Language Processing, section 3.6 (counts of 0).
    """

    name = "replace-nonfinite-constants"
    tier = Tier.DATA
    treats = frozenset({Cause.NONFINITE_CONSTANT})
    reference = "Jurafsky & Martin (2025), Speech and Language Processing, section 3.6"

    def refusal(self, diagnosis, run, plan):
        constant = diagnosis.place.constant
        if constant is None or not constant.instead:
            return "no constant was seen that has finite numbers beside others"
        return refusal_at(diagnosis.place, run, (None,), "no constant failed")

    def space(self, hp, diagnosis, run, plan):
        place, constant = diagnosis.place, diagnosis.place.constant
        assert constant is not None, "refused otherwise"
        return {
            "source": place.source,
            "layer": run.address_of(place.layer),
            "code": place.code,
            "constant": constant.name,
            "of_numpy": constant.of_numpy,
            "instead": dict(constant.instead),
        }

    def apply(self, run, plan, *, source, layer, instead, code=None, constant=None, of_numpy=True):
        form = written(instead, of_numpy=of_numpy)
        given = () if constant is None else ((constant, form),)
        return plan.with_change(Guards((Guard(CONSTANT, source, layer, 0.0, code, given),)))

    def explain(self, params):
        changes = [f"{KINDS[kind]} by {number:.4g}" for kind, number in params["instead"].items()]
        name = params["constant"] or "the constant that is taken"
        return (
            f"Replace {' and '.join(changes)} in {name} {_place(params)}; a saved model does not "
            "hold these numbers, so put them into the source."
        )

    def snippet(self, params):
        name = params["constant"] or "x"
        form = written(params["instead"], of_numpy=params["of_numpy"]).format(x=name)
        return f"{name} = {form}  # {_place(params)}"


def _place(params) -> str:
    return (
        f"at {params['source']}" if params["source"] is not None else f"in layer {params['layer']}"
    )
