"""Replace activations without a bound by bounded ones, and a last layer's by the one
that its loss needs.
"""

from nanfix.changes.layers import LayerAttributes
from nanfix.model.activations import activation_name, activation_of, is_bounded
from nanfix.model.crossentropies import PROBABILITIES, crossentropy_of, takes_logits
from nanfix.records.cause import Cause
from nanfix.records.diagnosis import Phase
from nanfix.remedies.strategy import Strategy, Tier

TRAINED = "prelu"  # it has weights, which a saved model holds


class SwapActivation(Strategy):
    """Let hidden layers compute tanh(z), or sigmoid(z), instead of an f(z) without bound.

    The last layer is changed only when its loss takes probabilities that its activation does not
    give: softmax or sigmoid; those of a pretrained model in front of others keep theirs. Weights
    stay as they are drawn but training starts again, since they
    were trained for another function. Does not help when the outputs of the last layer, the data,
    or the loss itself are what grows.

    Reference: Glorot & Bengio (2010), Understanding the Difficulty of Training Deep
    Feedforward Neural Networks.
    """

    name = "swap-activation"
    tier = Tier.ARCHITECTURE
    treats = frozenset({Cause.UNSTABLE_ACTIVATION, Cause.EXPLODING_GRADIENT})
    keeps_weights = False
    reference = "Glorot & Bengio (2010), AISTATS"

    def refusal(self, diagnosis, run, plan):
        if _hidden(run) or _output(diagnosis, run) is not None:
            return None
        return "no layer has an activation without bound, or one that its loss does not take"

    def space(self, hp, diagnosis, run, plan):
        output = _output(diagnosis, run)
        if output is not None:
            return {"layers": [output[0]], "activation": output[1]}
        activation = hp.Choice("activation", ["tanh", "sigmoid"])
        return {"layers": _hidden(run), "activation": activation}

    def apply(self, run, plan, *, layers, activation):
        return plan.with_change(LayerAttributes.of(layers, activation=activation))

    def explain(self, params):
        many = "s" if len(params["layers"]) > 1 else ""
        return (
            f"Use the activation {params['activation']} in layer{many} "
            f"{', '.join(params['layers'])}."
        )

    def snippet(self, params):
        return f"# layers {', '.join(params['layers'])}: activation={params['activation']!r}"


def _hidden(run) -> list[str]:
    """Return the addresses of layers, the last one apart, whose activation has no bound. Beside
    others, what was learned before keeps that which it was learned for.
    """
    # TensorFlow is loaded when it is needed, not with the catalogue.
    from nanfix.changes.insertion import remade

    # What a layer of Keras' own, as MultiHeadAttention, makes inside itself is its business, and
    # made anew when it is loaded.
    inside = {
        address
        for address, owner in remade(run.model, run.members).items()
        if type(owner).__module__.startswith("keras.")
    }
    hidden = [
        (a, layer)
        for a, layer in run.hidden_activations
        if activation_name(layer) != TRAINED and a not in inside
    ]
    hidden = [(a, layer) for a, layer in hidden if a not in run.learned] or hidden
    unbounded = {
        address: activation_name(layer)
        for address, layer in hidden
        if not is_bounded(activation_of(layer))
    }
    # Beside other activations a linear layer is meant to be one, for instance before a
    # separate Activation layer.
    return [
        p
        for p, name in unbounded.items()
        if name != "linear" or set(unbounded.values()) == {"linear"}
    ]


def _output(diagnosis, run) -> tuple[str, str] | None:
    """Return the last layer's address and the activation that its loss needs, where it
    has another one.
    """
    loss = run.user_loss
    crossentropy = crossentropy_of(loss)
    if (
        crossentropy is None
        or takes_logits(loss)
        or run.output_activation is None
        or diagnosis.place.phase is not Phase.LOSS
    ):
        return None
    address, layer = run.output_activation
    return (
        (address, crossentropy.activation) if activation_name(layer) not in PROBABILITIES else None
    )
