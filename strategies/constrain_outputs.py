"""Give the columns of an output an activation that keeps them where their loss is defined."""

from nanfix.changes.columns import in_words, of_json
from nanfix.changes.layers import LayerAttributes
from nanfix.records.cause import Cause
from nanfix.records.diagnosis import Phase
from nanfix.remedies.strategy import Strategy, Tier

INTO_DOMAIN = ("softplus", "sigmoid")  # above 0; between 0 and 1


class ConstrainOutputs(Strategy):
    """Let the columns of an output compute softplus(z) = log(1 + exp(z)), or sigmoid(z), where
    their f(z) leaves the domain of the loss; of several outputs that of which the loss fails.

    A logarithm or root of the outputs is not defined below 0; kept inside its domain at that very
    operation, it gives no gradient there, and a loss that has other terms, as Poisson's, then falls
    for ever. Softplus keeps outputs above 0, sigmoid between 0 and 1. Each column takes the first
    with which the loss is finite and has a minimum, and keeps its own activation where that will
    do: of a mean and a deviation, only the deviation becomes positive. Columns that other layers
    give, joined behind them, are changed there. The model then predicts such values. Weights stay
    as they are drawn but training starts again, since they were trained for another function. Does
    not help where a loss fails for another reason than its outputs.

    Reference: Dugas et al. (2000), Incorporating Second-Order Functional Knowledge for Better
    Option Pricing (softplus).
    """

    name = "constrain-outputs"
    tier = Tier.ARCHITECTURE
    treats = frozenset({Cause.LOSS_DOMAIN})
    keeps_weights = False
    reference = "Dugas et al. (2000), NeurIPS"

    def refusal(self, diagnosis, run, plan):
        if diagnosis.place.phase is not Phase.LOSS:
            return "it was not the loss of the outputs that failed"
        return None if _needed(run) else "no activation of an output layer makes this loss finite"

    def space(self, hp, diagnosis, run, plan):
        return {
            "activations": {
                layer: wanted if isinstance(wanted, str) else [list(each) for each in wanted]
                for layer, wanted in _needed(run).items()
            }
        }

    def apply(self, run, plan, *, activations):
        return plan.with_change(
            LayerAttributes(
                {
                    layer: {"activation": wanted if isinstance(wanted, str) else of_json(wanted)}
                    for layer, wanted in activations.items()
                }
            )
        )

    def explain(self, params):
        words = " and ".join(
            f"the activation {wanted} in the output layer, {layer}"
            if isinstance(wanted, str)
            else f"{in_words(of_json(wanted))} in the output layer, {layer}"
            for layer, wanted in params["activations"].items()
        )
        return f"Use {words}."

    def snippet(self, params):
        return "\n".join(
            f"# layer {layer}: activation={wanted!r}"
            if isinstance(wanted, str)
            else f"# layer {layer}: {in_words(of_json(wanted))}"
            for layer, wanted in params["activations"].items()
        )


def _needed(run):
    # TensorFlow is loaded when it is needed, not with the catalogue.
    from nanfix.explain.output_columns import needed_activations

    return needed_activations(run, INTO_DOMAIN)
