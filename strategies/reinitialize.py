"""Draw the initial weights anew, as large as the width and the activation of each layer
call for.
"""

from nanfix.changes.initial_weights import InitialWeights
from nanfix.model.activations import activations_of_kernels
from nanfix.records.cause import Cause
from nanfix.records.plurals import counted
from nanfix.remedies.strategy import Strategy, Tier

RECTIFIERS = ("relu", "leaky_relu", "elu", "gelu", "silu", "relu6", "softplus", "mish", "celu")
SELF_NORMALIZING = ("selu",)


class Reinitialize(Strategy):
    """Draw kernels with variance 2 / fan-in (He) before rectifiers, 1 / fan-in (LeCun)
    before SELU, else Glorot's.

    Biases become zero, recurrent kernels orthogonal. Training starts again. Does not help weights
    that were of the right size and have grown.

    Reference: He, Zhang, Ren & Sun (2015), arXiv:1502.01852; Glorot & Bengio (2010).
    """

    name = "reinitialize"
    tier = Tier.ARCHITECTURE
    treats = frozenset({Cause.BAD_INITIALIZATION})
    keeps_weights = False
    reference = "He et al. (2015), arXiv:1502.01852; Glorot & Bengio (2010), AISTATS"

    def refusal(self, diagnosis, run, plan):
        return None if _weighted(run) else "no layer has a kernel and an activation"

    def space(self, hp, diagnosis, run, plan):
        return {"initializers": {address: _fitting(name) for address, name in _weighted(run)}}

    def apply(self, run, plan, *, initializers):
        for address, initializer in initializers.items():
            plan = plan.with_change(InitialWeights({address: initializer}))
        return plan

    def explain(self, params):
        layers = counted(len(params["initializers"]), "layer")
        kinds = sorted(set(params["initializers"].values()))
        return f"Draw the initial weights of {layers} anew ({', '.join(kinds)})."

    def snippet(self, params):
        return (
            f"# kernel_initializer={sorted(set(params['initializers'].values()))[0]!r} in every "
            "layer"
        )


def _weighted(run) -> list[tuple[str, str]]:
    return activations_of_kernels(list(run.members.items()))


def _fitting(activation: str) -> str:
    return (
        "he_normal"
        if activation in RECTIFIERS
        else "lecun_normal"
        if activation in SELF_NORMALIZING
        else "glorot_uniform"
    )
