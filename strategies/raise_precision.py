"""Compute in float32 what exceeds the range of half precision."""

from nanfix.changes.layers import LayerAttributes
from nanfix.records.cause import Cause
from nanfix.remedies.strategy import Strategy, Tier

HALF = ("float16", "bfloat16")


class RaisePrecision(Strategy):
    """Let the layer that overflowed, then every layer, compute in float32, whose largest number is
    3.4e38 and not 65504.

    Weights are kept: under a mixed policy they are float32 already. Does not help when values
    exceed float32 too, and is not for models whose very weights are of half precision.

    Reference: Micikevicius et al. (2018), Mixed Precision Training, arXiv:1710.03740, section 3.3.
    """

    name = "raise-precision"
    tier = Tier.NUMERICS
    treats = frozenset({Cause.REDUCED_PRECISION})
    reference = "Micikevicius et al. (2018), arXiv:1710.03740"

    def refusal(self, diagnosis, run, plan):
        return None if _half(run) else "no layer computes in half precision with weights of float32"

    def space(self, hp, diagnosis, run, plan):
        half, layers = _half(run), run.members
        failed = [address for address in half if layers[address].name == diagnosis.place.layer]
        # What it passes its numbers to would take none of float32.
        named = [each for each in half if any(_is_in(each, outer) for outer in failed)]
        scope = hp.Choice("scope", ["layer", "model"] if named and len(half) > 1 else ["model"])
        return {"layers": named if scope == "layer" else half}

    def apply(self, run, plan, *, layers):
        return plan.with_change(LayerAttributes.of(layers, dtype_policy="float32"))

    def explain(self, params):
        layers = params["layers"]
        outer = [e for e in layers if not any(_is_in(e, other) for other in layers if other != e)]
        which = f"layer {outer[0]}" if len(outer) == 1 else f"{len(outer)} layers"
        return f"Compute {which} in float32."

    def snippet(self, params):
        return f"# layers {', '.join(params['layers'])}: dtype='float32'"


def _is_in(address: str, outer: str) -> bool:
    """Say whether a layer is another one, or inside it."""
    return f"{address}/".startswith(f"{outer}/")


def _half(run) -> list[str]:
    """Return the addresses of layers that compute in half precision with weights that are not."""
    layers = [(p, la) for p, la in run.members.items() if hasattr(la, "dtype_policy")]
    return [p for p, la in layers if la.compute_dtype in HALF and la.variable_dtype not in HALF]
