"""Draw the initial weights anew, as large as the width and the activation of each layer
call for.
"""

from nanfix.changes.initial_weights import InitialWeights, smaller_initializer
from nanfix.model.activations import activations_of_kernels
from nanfix.records.cause import Cause
from nanfix.records.plurals import counted
from nanfix.remedies.strategy import Strategy, Tier

RECTIFIERS = ("relu", "leaky_relu", "elu", "gelu", "silu", "relu6", "softplus", "mish", "celu")
SELF_NORMALIZING = ("selu",)
NAMED = 3  # layers that an explanation names
AT_ZERO = (Cause.GRADIENT_SINGULARITY, Cause.LAYER_DOMAIN, Cause.LOSS_DOMAIN)


class Reinitialize(Strategy):
    """Draw kernels with variance 2 / fan-in (He) before rectifiers, 1 / fan-in (LeCun)
    before SELU, else Glorot's.

    Biases become zero, recurrent kernels orthogonal; beside a pretrained model only what is not
    part of it is drawn. Where sums still let numbers grow from layer
    to layer, as in a residual stack, all kernels are smaller by one factor, with which rows of the
    data keep their scale. Training starts again. Where an operation
    fails of 0, as the angle or the norm of (0, 0), only kernels that begin as zeros are drawn: they
    give 0 for every row. Does not help weights that were of the right size and have grown.

    Reference: He, Zhang, Ren & Sun (2015), arXiv:1502.01852; Glorot & Bengio (2010); for residual
    stacks Zhang, Dauphin & Ma (2019), Fixup, arXiv:1901.09321.
    """

    name = "reinitialize"
    tier = Tier.ARCHITECTURE
    treats = frozenset({Cause.BAD_INITIALIZATION, *AT_ZERO})
    keeps_weights = False
    reference = "He et al. (2015), arXiv:1502.01852; Glorot & Bengio (2010), AISTATS"

    def refusal(self, diagnosis, run, plan):
        if _to_draw(diagnosis, run):
            return None
        suited = "no kernel begins as zeros" if _weighted(run) else None
        return suited or "no layer has a kernel and an activation"

    def space(self, hp, diagnosis, run, plan):
        drawn = _to_draw(diagnosis, run)
        initializers = {address: _fitting(name) for address, name in drawn}
        share = float(f"{diagnosis.weights_share:.3g}")
        return {"initializers": initializers, **({"share": share} if share < 1.0 else {})}

    def apply(self, run, plan, *, initializers, share=1.0):
        return plan.with_change(InitialWeights(initializers, share))

    def explain(self, params):
        layers = list(params["initializers"])
        which = ", ".join(layers) if len(layers) <= NAMED else counted(len(layers), "layer")
        kinds = sorted(set(params["initializers"].values()))
        size = f", at {params['share']:.2g} of their size" if "share" in params else ""
        return f"Draw the initial weights of {which} anew ({', '.join(kinds)}{size})."

    def snippet(self, params):
        share = params.get("share", 1.0)
        return "\n".join(
            f"# layer {address}: kernel_initializer="
            f"{repr(name) if share == 1.0 else smaller_initializer(name, share)}"
            for address, name in params["initializers"].items()
        )


def _to_draw(diagnosis, run) -> list[tuple[str, str]]:
    """Return the layers to draw anew: all of them where weights are too large, but where what is
    first at fault is an operation of 0 those that begin as zeros.
    """
    at_zero = diagnosis.cause in AT_ZERO and Cause.BAD_INITIALIZATION not in diagnosis.at_fault
    if Cause.BAD_INITIALIZATION in diagnosis.causes and not at_zero:
        return _weighted(run)
    return [(address, name) for address, name in _weighted(run) if address in run.zeroed]


def _weighted(run) -> list[tuple[str, str]]:
    """Return the layers with kernels, each with its activation, where some are drawn by chance
    these.
    """
    found = activations_of_kernels(list(run.members.items()))
    return [(address, name) for address, name in found if address not in run.learned] or found


def _fitting(activation: str) -> str:
    return (
        "he_normal"
        if activation in RECTIFIERS
        else "lecun_normal"
        if activation in SELF_NORMALIZING
        else "glorot_uniform"
    )
