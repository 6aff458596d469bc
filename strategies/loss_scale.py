"""Scale the loss while gradients are computed, so that they fit into half precision,
and skip the steps that do not.
"""

from nanfix.changes.optimizer import OptimizerSettings
from nanfix.model.run import base_optimizer
from nanfix.records.cause import Cause
from nanfix.remedies.strategy import Strategy, Tier


class LossScale(Strategy):
    """Compute the gradient of s * L and divide it by s; a step that overflows is
    skipped and halves s.

    The optimizer is wrapped in Keras' LossScaleOptimizer, whose scale starts at 1 or lower and
    doubles after 2000 finite steps. Does not help when values of the forward pass overflow, nor
    training steps of the user's own, which do not ask the optimizer to scale their loss.

    Reference: Micikevicius et al. (2018), Mixed Precision Training, arXiv:1710.03740, section 3.2.
    """

    name = "loss-scale"
    tier = Tier.NUMERICS
    treats = frozenset({Cause.REDUCED_PRECISION})
    reference = "Micikevicius et al. (2018), arXiv:1710.03740; keras.optimizers.LossScaleOptimizer"

    def refusal(self, diagnosis, run, plan):
        if not run.has_stock_step:
            return "the training step is the user's own"
        scaled = (
            run.model.optimizer is not base_optimizer(run.model)
            or plan.of(OptimizerSettings).loss_scale is not None
        )
        return None if not scaled else "the optimizer scales the loss already"

    def space(self, hp, diagnosis, run, plan):
        return {"initial_scale": hp.Choice("initial_scale", [1.0, 2.0**-10])}

    def apply(self, run, plan, *, initial_scale):
        return plan.with_change(OptimizerSettings(loss_scale=initial_scale))

    def explain(self, params):
        return (
            f"Compute gradients of the loss times {params['initial_scale']:.3g} or less, and skip "
            "the steps that overflow."
        )

    def snippet(self, params):
        return (
            "optimizer = keras.optimizers.LossScaleOptimizer(optimizer, "
            f"initial_scale={params['initial_scale']:.3g})"
        )
