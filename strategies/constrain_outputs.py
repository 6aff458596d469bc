"""Give the columns of an output an activation that keeps them where their loss is defined."""

from nanfix.changes.behind_outputs import BehindOutputs
from nanfix.changes.columns import in_words, of_json
from nanfix.changes.layers import LayerAttributes
from nanfix.model.outputs import OUTPUT
from nanfix.records.cause import Cause
from nanfix.records.diagnosis import Phase
from nanfix.remedies.strategy import Strategy, Tier

INTO_DOMAIN = ("softplus", "sigmoid")  # above 0; between 0 and 1


class ConstrainOutputs(Strategy):
    """Let the columns of an output compute softplus(z) = log(1 + exp(z)), sigmoid(z), or a softmax
    together, where their f(z) leaves the domain of the loss; of several outputs that of which the
    loss fails.

    A logarithm or root of the outputs is not defined below 0; kept inside its domain at that very
    operation, it gives no gradient there, and a loss that has other terms, as Poisson's, then falls
    for ever. Softplus keeps outputs above 0, sigmoid between 0 and 1. Each column takes the first
    with which the loss is finite and has a minimum, and keeps its own activation where that will
    do: of a mean and a deviation, only the deviation becomes positive. A loss that is least
    where all columns are 1, whatever the targets, as the logarithm of the probability of the class,
    gets a softmax: with sigmoids it would fall without anything being learned. Beside them a column
    of relu becomes softplus, too, since where it gives 0 for all rows nothing is learned. Columns
    that other layers give, joined behind them, are changed there. Where no layer with an activation
    gives them, but a product, a sum or code of the user's own, the activation is computed behind
    the output, if that can get below 0 at all. The model then predicts such values.
    Weights stay as they are drawn but training starts again, since they were trained for
    another function. Does not help where a loss fails for another reason than its outputs.

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
        needed = _needed(run)
        if needed.layers or needed.behind:
            return None
        if not run.ends and None in (run.outputs or ()):
            return (
                "no layer with an activation gives the output, and nothing can be put behind it: "
                "it shares its name, or is one of several of a model with a call of its own"
            )
        return "no activation of the outputs makes this loss finite"

    def space(self, hp, diagnosis, run, plan):
        needed = _needed(run)
        behind = {"behind": _as_json(needed.behind)} if needed.behind else {}
        return {"activations": _as_json(needed.layers), **behind}

    def apply(self, run, plan, *, activations, behind=None):
        if activations:
            wanted = {layer: {"activation": each} for layer, each in _read(activations).items()}
            plan = plan.with_change(LayerAttributes(wanted))
        return plan.with_change(BehindOutputs(_read(behind))) if behind else plan

    def explain(self, params):
        words = [
            *(
                f"{_words(wanted)} in the output layer, {layer}"
                for layer, wanted in _read(params["activations"]).items()
            ),
            *(
                f"{_words(wanted)} {_behind(name)}"
                for name, wanted in _read(params.get("behind", {})).items()
            ),
        ]
        return f"Use {' and '.join(words)}."

    def snippet(self, params):
        layers = [
            f"# layer {layer}: activation={wanted!r}"
            if isinstance(wanted, str)
            else f"# layer {layer}: {in_words(wanted)}"
            for layer, wanted in _read(params["activations"]).items()
        ]
        behind = [
            f"{name} = keras.layers.Activation({wanted!r})({name})"
            if isinstance(wanted, str)
            else f"# {_behind(name)}: {in_words(wanted)}"
            for name, wanted in _read(params.get("behind", {})).items()
        ]
        return "\n".join([*layers, *behind])


def _as_json(wanted):
    return {
        name: each if isinstance(each, str) else [list(run) for run in each]
        for name, each in wanted.items()
    }


def _read(given):
    return {name: each if isinstance(each, str) else of_json(each) for name, each in given.items()}


def _behind(name):
    return f"behind the output{'' if name == OUTPUT else f' {name}'}"


def _words(wanted):
    return f"the activation {wanted}" if isinstance(wanted, str) else in_words(wanted)


def _needed(run):
    # TensorFlow is loaded when it is needed, not with the catalogue.
    from nanfix.explain.output_columns import needed_activations

    return needed_activations(run, INTO_DOMAIN)
