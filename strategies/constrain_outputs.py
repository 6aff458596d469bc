"""Give the layer of an output an activation that keeps it where its loss is defined."""

from nanfix.changes.layers import LayerAttributes
from nanfix.records.cause import Cause
from nanfix.records.diagnosis import Phase
from nanfix.remedies.strategy import Strategy, Tier

INTO_DOMAIN = ("softplus", "sigmoid")  # above 0; between 0 and 1


class ConstrainOutputs(Strategy):
    """Let the layer of an output compute softplus(z) = log(1 + exp(z)), or sigmoid(z), where its
    f(z) leaves the domain of the loss; of several outputs that of which the loss fails.

    A logarithm or root of the outputs is not defined below 0; kept inside its domain at that very
    operation, it gives no gradient there, and a loss that has other terms, as Poisson's, then falls
    for ever. Softplus keeps outputs above 0, sigmoid between 0 and 1; taken is the first with which
    the loss is finite and has a minimum. The model then predicts such values. Weights stay as they
    are drawn but training starts again, since they were trained for another function. Does not help
    where some outputs only have to be positive, as the mean and the deviation of one layer, nor a
    loss that fails for another reason than its outputs.

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
        return (
            None
            if _needed(run) is not None
            else "no activation of an output layer makes this loss finite"
        )

    def space(self, hp, diagnosis, run, plan):
        needed = _needed(run)
        assert needed is not None, "space is asked only where the strategy applies"
        return {"layer": needed[0], "activation": needed[1]}

    def apply(self, run, plan, *, layer, activation):
        return plan.with_change(LayerAttributes.of([layer], activation=activation))

    def explain(self, params):
        return f"Use the activation {params['activation']} in the output layer, {params['layer']}."

    def snippet(self, params):
        return f"# layer {params['layer']}: activation={params['activation']!r}"


def _needed(run) -> tuple[str, str] | None:
    # TensorFlow is loaded when it is needed, not with the catalogue.
    from nanfix.explain.loss_probe import needed_activation

    return needed_activation(run, INTO_DOMAIN)
