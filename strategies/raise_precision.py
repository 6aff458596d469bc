"""Compute in float32 what exceeds the range of half precision."""

from nanfix.addresses import walk
from nanfix.diagnosis import Cause
from nanfix.strategy import Refusal, Strategy, Tier

HALF = ("float16", "bfloat16")


class RaisePrecision(Strategy):
    """Let the layer that overflowed, then every layer, compute in float32, whose largest number is 3.4e38 and not 65504.

    Weights are kept: under a mixed policy they are float32 already. Does not help when values exceed float32 too, and is
    not for models whose very weights are of half precision.

    Reference: Micikevicius et al. (2018), Mixed Precision Training, arXiv:1710.03740, section 3.3.
    """

    name = "raise-precision"
    tier = Tier.NUMERICS
    treats = frozenset({Cause.REDUCED_PRECISION})
    reference = "Micikevicius et al. (2018), arXiv:1710.03740"

    def applies(self, diagnosis, setup):
        if not self.answers(diagnosis):
            return False
        return bool(_half(setup)) or Refusal("no layer computes in half precision with weights of float32")

    def space(self, hp, diagnosis, setup):
        half, layers = _half(setup), dict(walk(setup.model))
        named = [address for address in half if layers[address].name == diagnosis.place.layer]
        scope = hp.Choice("scope", ["layer", "model"] if named and len(half) > 1 else ["model"])
        return {"layers": named if scope == "layer" else half}

    def apply(self, setup, *, layers):
        for address in layers:
            setup = setup.with_layer(address, dtype_policy="float32")
        return setup

    def explain(self, params):
        layers = params["layers"]
        which = f"layer {layers[0]}" if len(layers) == 1 else f"{len(layers)} layers"
        return f"Compute {which} in float32."

    def snippet(self, params):
        return f"# layers {', '.join(params['layers'])}: dtype='float32'"


def _half(setup) -> list[str]:
    """Return the addresses of layers that compute in half precision with weights that are not."""
    layers = [(p, la) for p, la in walk(setup.model) if hasattr(la, "dtype_policy")]
    return [p for p, la in layers if la.compute_dtype in HALF and la.variable_dtype not in HALF]
