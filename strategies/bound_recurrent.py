"""Give recurrent layers back the bounded activations with which their state cannot grow without limit."""

from nanfix.addresses import walk
from nanfix.diagnosis import Cause
from nanfix.setup import unbounded_recurrences
from nanfix.strategy import Refusal, Strategy, Tier


class BoundRecurrent(Strategy):
    """Compute the state h = tanh(W x + U h + b), |h| <= 1, in LSTM, GRU and SimpleRNN cells, with sigmoid gates.

    A stronger level draws the kernels anew, U orthogonal and so of gain 1. Training starts again from the initial weights.
    Does not help when the recurrence is bounded already and something else grows.

    Reference: Hochreiter & Schmidhuber (1997), Long Short-Term Memory; Saxe, McClelland & Ganguli (2014), arXiv:1312.6120.
    """

    name = "bound-recurrent"
    tier = Tier.ARCHITECTURE
    treats = frozenset({Cause.UNSTABLE_RECURRENCE})
    keeps_weights = False
    reference = "Hochreiter & Schmidhuber (1997); Saxe, McClelland & Ganguli (2014), arXiv:1312.6120"

    def applies(self, diagnosis, setup):
        if not self.answers(diagnosis):
            return False
        return bool(_unbounded(setup)) or Refusal("every recurrent layer is bounded")

    def space(self, hp, diagnosis, setup):
        kernels = hp.Choice("kernels", ["kept", "orthogonal"])
        return {"layers": _unbounded(setup), "kernels": kernels}

    def apply(self, setup, *, layers, kernels):
        for address in layers:
            setup = setup.with_layer(address, activation="tanh")
            if hasattr(setup.members[address], "recurrent_activation"):
                setup = setup.with_layer(address, recurrent_activation="sigmoid")
            if kernels == "orthogonal":
                setup = setup.with_initializer(address, "glorot_uniform")
        return setup

    def explain(self, params):
        many = f"{len(params['layers'])} recurrent layers" if len(params["layers"]) > 1 else "the recurrent layer"
        anew = " and draw orthogonal recurrent kernels" if params["kernels"] == "orthogonal" else ""
        return f"Use the activation tanh in {many}{anew}."

    def snippet(self, params):
        return f"# cells {', '.join(params['layers'])}: activation='tanh', recurrent_initializer='orthogonal'"


def _unbounded(setup) -> list[str]:
    """Return the addresses of the recurrent cells whose activation has no bound."""
    unbounded = {id(cell) for cell in unbounded_recurrences(setup)}
    return [address for address, layer in walk(setup.model) if id(layer) in unbounded]
