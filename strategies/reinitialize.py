"""Draw the initial weights anew, as large as the width and the activation of each layer
call for.
"""

from nanfix.changes.initial_weights import (
    InitialWeights,
    constant_initializer,
    smaller_initializer,
)
from nanfix.data.last_biases import fitting_biases
from nanfix.model.activations import fitting_initializer
from nanfix.model.learned_weights import drawable
from nanfix.records.cause import Cause
from nanfix.records.plurals import counted
from nanfix.remedies.strategy import Strategy, Tier

NAMED = 3  # layers that an explanation names
AT_ZERO = (Cause.GRADIENT_SINGULARITY, Cause.LAYER_DOMAIN, Cause.LOSS_DOMAIN)


class Reinitialize(Strategy):
    """Draw kernels with variance 2 / fan-in (He) before rectifiers, 1 / fan-in (LeCun)
    before SELU, else Glorot's.

    Recurrent kernels become orthogonal, biases zero; that of the last layer begins at the mean of
    the targets or the log-odds of the classes where these are far from 0. Beside a pretrained model
    only what is not part of it is drawn. Where sums still let numbers grow from layer to layer, as
    in a residual stack, kernels that end a branch begin as zeros, or so much smaller where an
    activation stands behind them, and others so small that each gives numbers of unit size for rows
    of the data. Training starts again. Where an operation
    fails of 0, as the angle or the norm of (0, 0), only kernels that begin as zeros are drawn: they
    give 0 for every row. Does not help weights that were of the right size and have grown.

    Reference: He, Zhang, Ren & Sun (2015), arXiv:1502.01852; Glorot & Bengio (2010); for sums
    Mishkin & Matas (2016), LSUV, arXiv:1511.06422, and Zhang, Dauphin & Ma (2019), Fixup,
    arXiv:1901.09321; for the last bias Karpathy (2019), A Recipe for Training Neural Networks.
    """

    name = "reinitialize"
    tier = Tier.ARCHITECTURE
    treats = frozenset({Cause.BAD_INITIALIZATION, *AT_ZERO})
    keeps_weights = False
    reference = "He et al. (2015), arXiv:1502.01852; Glorot & Bengio (2010), AISTATS"

    def refusal(self, diagnosis, run, plan):
        if _to_draw(diagnosis, run):
            return None
        suited = "no kernel begins as zeros" if drawable(run) else None
        return suited or "no layer has a kernel and an activation"

    def space(self, hp, diagnosis, run, plan):
        drawn = _to_draw(diagnosis, run)
        initializers = {address: fitting_initializer(name) for address, name in drawn}
        shares = {
            address: float(f"{share:.3g}")
            for address, share in diagnosis.weights_shares.items()
            if address in initializers
        }
        biases = {
            address: list(each)
            for address, each in fitting_biases(run).items()
            if address in initializers
        }
        wanted = {"initializers": initializers, "shares": shares, "biases": biases}
        return {name: each for name, each in wanted.items() if each}

    def apply(self, run, plan, *, initializers, shares=None, biases=None):
        numbers = {address: tuple(each) for address, each in (biases or {}).items()}
        return plan.with_change(InitialWeights(initializers, shares or {}, numbers))

    def explain(self, params):
        shares, biases = params.get("shares", {}), params.get("biases", {})
        layers = [each for each in params["initializers"] if shares.get(each, 1.0)]
        kinds = sorted({params["initializers"][each] for each in layers})
        parts = [f"{_named(layers)} anew ({', '.join(kinds)})"] if layers else []
        smaller = {address: share for address, share in shares.items() if share}
        if smaller:
            sizes = [f"{share:.2g}" for share in sorted(set(smaller.values()))]
            span = sizes[0] if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]}"
            parts.append(f"of these {_named(list(smaller))} at {span} of their size")
        zeros = [address for address, share in shares.items() if not share]
        parts += [f"zeros for {_named(zeros)}, where branches end"] if zeros else []
        begun = [f"{address} with a bias of {_numbers(each)}" for address, each in biases.items()]
        return f"Draw the initial weights of {', '.join([*parts, *begun])}."

    def snippet(self, params):
        shares, biases = params.get("shares", {}), params.get("biases", {})
        lines = []
        for address, name in params["initializers"].items():
            share = shares.get(address, 1.0)
            kernel = repr(name) if share == 1.0 else smaller_initializer(name, share)
            lines.append(f"# layer {address}: kernel_initializer={kernel}")
            if address in biases:
                lines.append(f"#   bias_initializer={constant_initializer(biases[address])}")
        return "\n".join(lines)


def _named(layers: list[str]) -> str:
    return ", ".join(layers) if len(layers) <= NAMED else counted(len(layers), "layer")


def _numbers(biases: list[float]) -> str:
    shown = [f"{each:.3g}" for each in biases[:NAMED]]
    return ", ".join(shown) + (", ..." if len(biases) > NAMED else "")


def _to_draw(diagnosis, run) -> list[tuple[str, str]]:
    """Return the layers to draw anew: all of them where weights are too large, but where what is
    first at fault is an operation of 0 those that begin as zeros.
    """
    at_zero = diagnosis.cause in AT_ZERO and Cause.BAD_INITIALIZATION not in diagnosis.at_fault
    if Cause.BAD_INITIALIZATION in diagnosis.causes and not at_zero:
        return drawable(run)
    return [(address, name) for address, name in drawable(run) if address in run.zeroed]
