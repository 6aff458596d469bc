"""Take no step whose gradient is not finite, so that single batches cannot ruin the weights."""

from nanfix.changes.optimizer import OptimizerSettings
from nanfix.records.cause import Cause
from nanfix.remedies.strategy import Strategy, Tier


class SkipNonfiniteSteps(Strategy):
    """Update the weights at a step only if every entry of its gradient is finite; else leave
    weights and moments alone.

    The loss of a skipped step is left out of the epoch's mean, and the report says how many steps
    were skipped. The check is of use in training and is not part of the model afterwards. Does not
    help when every step fails, nor when batch normalization has taken the batch into its
    statistics, nor a training step of the user's own that keeps its own loss.

    Reference: Micikevicius et al. (2018), Mixed Precision Training, arXiv:1710.03740, section 3.2;
    optax.apply_if_finite.
    """

    name = "skip-nonfinite-steps"
    tier = Tier.OPTIMIZER
    treats = frozenset({Cause.TRANSIENT})
    eases = frozenset(
        {
            Cause.POISON_BATCH,
            Cause.NONFINITE_INPUT,
            Cause.NONFINITE_TARGET,
            Cause.GRADIENT_SINGULARITY,
            Cause.LOSS_DOMAIN,
            Cause.LAYER_DOMAIN,
            Cause.STEP_DOMAIN,
            Cause.EMPTY_REDUCTION,
            Cause.UNKNOWN,
        }
    )
    reference = "Micikevicius et al. (2018), arXiv:1710.03740; optax.apply_if_finite"

    def refusal(self, diagnosis, run, plan):
        if plan.of(OptimizerSettings).skip_nonfinite:
            return "such steps are skipped already"
        return None if run.replicas == 1 else "several devices train together"

    def space(self, hp, diagnosis, run, plan):
        return {}

    def apply(self, run, plan):
        return plan.with_change(OptimizerSettings(skip_nonfinite=True))

    def explain(self, params):
        return "Skip every step whose gradient is not finite."

    def snippet(self, params):
        return (
            "optimizer = keras.optimizers.LossScaleOptimizer(optimizer, initial_scale=1.0)  # "
            "skips such steps"
        )
