"""Normalize what goes into the layer that overflowed, so that its inputs cannot grow with depth."""

from nanfix.changes.normalization import Normalized
from nanfix.records.cause import Cause
from nanfix.remedies.strategy import Strategy, Tier


class AddNormalization(Strategy):
    """Put (h - mean(h)) / sqrt(var(h) + 1e-3), over the features of each row, in front
    of a layer of weights.

    In front of the one that overflowed, or, as a stronger level, of all but the first. The
    LayerNormalization that is added has no weights of its own, and the user's keep their initial
    values; training starts again from them. Does not help when the loss or its targets are what
    grows, and is not for layers in a model with a `call` of its own.

    Reference: Ba, Kiros & Hinton (2016), Layer Normalization, arXiv:1607.06450.
    """

    name = "add-normalization"
    tier = Tier.ARCHITECTURE
    eases = frozenset(
        {
            Cause.EXPLODING_GRADIENT,
            Cause.BAD_INITIALIZATION,
            Cause.UNSTABLE_ACTIVATION,
            Cause.UNSTABLE_RECURRENCE,
            Cause.LEARNING_RATE,
            Cause.REDUCED_PRECISION,
        }
    )
    keeps_weights = False
    reference = "Ba, Kiros & Hinton (2016), arXiv:1607.06450"

    def refusal(self, diagnosis, run, plan):
        if not run.normalizable:
            return "no layer of weights but the first lies in a Sequential or Functional model"
        return None if not plan.of(Normalized).layers else "the layers are normalized already"

    def space(self, hp, diagnosis, run, plan):
        failed = _failed(diagnosis, run)
        scope = hp.Choice("scope", ["layer", "all"] if failed else ["all"])
        return {"layers": failed if scope == "layer" else list(run.normalizable)}

    def apply(self, run, plan, *, layers):
        return plan.with_change(Normalized(tuple(layers)))

    def explain(self, params):
        return f"Put a LayerNormalization in front of {_listed(params['layers'])}."

    def snippet(self, params):
        return (
            "# keras.layers.LayerNormalization(center=False, scale=False) in front of "
            f"{_listed(params['layers'])}"
        )


def _listed(names: list[str]) -> str:
    return (
        ", ".join(names) if len(names) <= 3 else f"{len(names)} layers, {names[0]} to {names[-1]}"
    )


def _failed(diagnosis, run) -> list[str]:
    """Return the address of the normalizable layer in which the first non-finite value appeared, or
    that holds its cell.
    """
    upto = []
    for address, layer in run.members.items():
        upto += [address] if address in run.normalizable else []
        if layer.name == diagnosis.place.layer:
            return upto[-1:]
    return []
