"""Give recurrent layers back the bounded activations with which their state cannot grow
without limit.
"""

from nanfix.changes.initial_weights import InitialWeights
from nanfix.changes.layers import LayerAttributes
from nanfix.model.run import unbounded_recurrences
from nanfix.records.cause import Cause
from nanfix.remedies.strategy import Strategy, Tier


class BoundRecurrent(Strategy):
    """Compute the state h = tanh(W x + U h + b), |h| <= 1, in LSTM, GRU and SimpleRNN
    cells, with sigmoid gates.

    A stronger level draws the kernels anew, U orthogonal and so of gain 1. Training
    starts again from the initial weights. Does not help when the recurrence is bounded
    already and something else grows.

    Reference: Hochreiter & Schmidhuber (1997), Long Short-Term Memory; Saxe, McClelland & Ganguli
    (2014), arXiv:1312.6120.
    """

    name = "bound-recurrent"
    tier = Tier.ARCHITECTURE
    treats = frozenset({Cause.UNSTABLE_RECURRENCE})
    keeps_weights = False
    reference = (
        "Hochreiter & Schmidhuber (1997); Saxe, McClelland & Ganguli (2014), arXiv:1312.6120"
    )

    def refusal(self, diagnosis, run, plan):
        return None if _unbounded(run) else "no recurrent layer of Keras is without a bound"

    def space(self, hp, diagnosis, run, plan):
        kernels = hp.Choice("kernels", ["kept", "orthogonal"])
        return {"layers": _unbounded(run), "kernels": kernels}

    def apply(self, run, plan, *, layers, kernels):
        for address in layers:
            plan = plan.with_change(LayerAttributes.of([address], activation="tanh"))
            if hasattr(run.members[address], "recurrent_activation"):
                plan = plan.with_change(
                    LayerAttributes.of([address], recurrent_activation="sigmoid")
                )
            if kernels == "orthogonal":
                plan = plan.with_change(InitialWeights({address: "glorot_uniform"}))
        return plan

    def explain(self, params):
        many = (
            f"{len(params['layers'])} recurrent layers"
            if len(params["layers"]) > 1
            else "the recurrent layer"
        )
        anew = " and draw orthogonal recurrent kernels" if params["kernels"] == "orthogonal" else ""
        return f"Use the activation tanh in {many}{anew}."

    def snippet(self, params):
        return (
            f"# cells {', '.join(params['layers'])}: activation='tanh', "
            "recurrent_initializer='orthogonal'"
        )


def _unbounded(run) -> list[str]:
    """Return the addresses of the recurrent cells whose activation has no bound."""
    unbounded = {id(cell) for cell in unbounded_recurrences(run)}
    return [address for address, layer in run.members.items() if id(layer) in unbounded]
