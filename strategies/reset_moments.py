"""Let the optimizer forget what it remembers of another training."""

from nanfix.changes.optimizer import OptimizerSettings
from nanfix.model.optimizers import trained_optimizers
from nanfix.records.cause import Cause
from nanfix.remedies.strategy import Strategy, Tier


class ResetMoments(Strategy):
    """Set m and v, or the velocity, and the count of steps to what a new optimizer
    starts with; the weights stay.

    A schedule goes on counting. Tried when the optimizer came with moments from an earlier `fit`,
    as when weights are set back between the folds of a cross-validation and the optimizer is not.
    Does not help when the gradients themselves grow.

    Reference: Kingma & Ba (2015), arXiv:1412.6980, Algorithm 1 (initialization of the moments).
    """

    name = "reset-moments"
    tier = Tier.OPTIMIZER
    treats = frozenset({Cause.STALE_MOMENTS})
    reference = "Kingma & Ba (2015), arXiv:1412.6980, Algorithm 1"

    def refusal(self, diagnosis, run, plan):
        if plan.of(OptimizerSettings).fresh_moments:
            return "the optimizer is a new one already"
        # More than the rate and the count of steps.
        remembers = any(len(optimizer.variables) > 2 for optimizer in trained_optimizers(run.model))
        return None if remembers else "the optimizer remembers nothing"

    def space(self, hp, diagnosis, run, plan):
        return {}

    def apply(self, run, plan):
        return plan.with_change(OptimizerSettings(fresh_moments=True))

    def explain(self, params):
        return "Start with an optimizer that remembers nothing of earlier trainings."

    def snippet(self, params):
        return (
            "model.compile(optimizer=type(optimizer).from_config(optimizer.get_config()), "
            "loss=model.loss)"
        )
