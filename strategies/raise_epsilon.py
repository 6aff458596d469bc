"""Raise the optimizer's epsilon above the rounding errors of what it is added to."""

from nanfix.changes.optimizer import OptimizerSettings
from nanfix.model.run import base_optimizer
from nanfix.records.cause import Cause
from nanfix.records.diagnosis import Phase
from nanfix.remedies.strategy import Strategy, Tier

SMALLEST = 1e-12  # below, the constant is out of any range, which is another remedy's business
LARGEST = 1.0


class RaiseEpsilon(Strategy):
    """Divide by sqrt(v) + f * epsilon instead of sqrt(v) + epsilon, or sqrt(v + f *
    epsilon) as RMSprop does.

    In half precision the square v of a small gradient is 0, and the variance that a
    centered RMSprop takes, v - m**2, is negative by its rounding error. Searches f in
    factors of 100, up to an epsilon of 1. Does not help when the gradient is
    non-finite, nor optimizers without an epsilon.

    Reference: Kingma & Ba (2015), arXiv:1412.6980, section 2; Choi et al. (2019), arXiv:1910.05446
    (epsilon is to be tuned).
    """

    name = "raise-epsilon"
    tier = Tier.OPTIMIZER
    treats = frozenset({Cause.OPTIMIZER_CONSTANT})
    eases = frozenset({Cause.REDUCED_PRECISION})
    reference = "Kingma & Ba (2015), arXiv:1412.6980; Choi et al. (2019), arXiv:1910.05446"

    def refusal(self, diagnosis, run, plan):
        epsilon = getattr(base_optimizer(run.model), "epsilon", None)
        if diagnosis.place.phase is not Phase.UPDATE:
            return "it was not the weight update that failed"
        if "epsilon" in plan.of(OptimizerSettings).settings or not isinstance(epsilon, float):
            return "the optimizer has no epsilon, or another one already"
        return (
            None
            if SMALLEST <= epsilon < LARGEST / 100
            else f"an epsilon of {epsilon:g} is not to be raised by factors"
        )

    def space(self, hp, diagnosis, run, plan):
        factor = hp.Choice("factor", [1e2, 1e4, 1e6, 1e8])
        return {"epsilon": float(f"{min(LARGEST, factor * base_optimizer(run.model).epsilon):.3g}")}

    def apply(self, run, plan, *, epsilon):
        return plan.with_change(OptimizerSettings({"epsilon": epsilon}))

    def explain(self, params):
        return f"Raise the optimizer's epsilon to {params['epsilon']:.3g}."

    def snippet(self, params):
        return f"optimizer.epsilon = {params['epsilon']:.3g}  # or epsilon=... when creating it"
