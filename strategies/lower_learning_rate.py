"""Lower the learning rate, so that one step no longer throws the weights past where
they were heading.
"""

from nanfix.changes.optimizer import OptimizerSettings
from nanfix.records.cause import Cause
from nanfix.remedies.strategy import Strategy, Tier

GREATEST_STEP = 1e3  # times the weights: from here to a step that teaches it is six decades at most


class LowerLearningRate(Strategy):
    """Use the rate share * r instead of r, in all optimizers that the training step calls.

    Where a schedule or a callback sets r, it goes on doing so, and each rate is
    multiplied by the share. Searches the share in half decades, so the range needs no
    retuning for another optimizer or loss; it begins lower where the first step was thousands of
    times as large as the weights. Does not help when a non-finite value comes
    from the data or from an operation outside its domain.

    Reference: Bengio (2012), Practical Recommendations for Gradient-Based Training,
    arXiv:1206.5533, section 3.1.
    """

    name = "lower-learning-rate"
    tier = Tier.OPTIMIZER
    treats = frozenset(
        {
            Cause.LEARNING_RATE,
            Cause.EXPLODING_GRADIENT,
            Cause.UNSCALED_INPUT,
            Cause.UNSCALED_TARGET,
            Cause.BAD_INITIALIZATION,
            Cause.UNSTABLE_ACTIVATION,
            Cause.UNSTABLE_RECURRENCE,
        }
    )
    eases = frozenset({Cause.NO_LOWER_BOUND})
    reference = "Bengio (2012), arXiv:1206.5533"

    def refusal(self, diagnosis, run, plan):
        rate = plan.of(OptimizerSettings).learning_rate(run)
        if rate is None:
            return "the optimizer has no learning rate"
        # However small it is, every step goes uphill; sane-constants takes the sign away.
        return "the learning rate is negative" if rate < 0.0 else None

    def space(self, hp, diagnosis, run, plan):
        share = hp.Choice(
            "share", [0.3, 0.1, 0.03, 0.01, 3e-3, 1e-3, 3e-4, 1e-4, 3e-5, 1e-5, 3e-6, 1e-6]
        )
        share *= min(1.0, GREATEST_STEP / (diagnosis.first_step or GREATEST_STEP))
        if not plan.of(OptimizerSettings).has_one_rate(run):
            return {"share": float(f"{share:.3g}")}
        rate = diagnosis.learning_rate or plan.of(OptimizerSettings).learning_rate(run) or 0.0
        return {"learning_rate": float(f"{share * rate:.3g}")}

    def apply(self, run, plan, *, learning_rate=None, share=None):
        if learning_rate is not None:
            return plan.with_change(OptimizerSettings({"learning_rate": learning_rate}))
        return plan.with_change(
            OptimizerSettings(rate_share=share * plan.of(OptimizerSettings).rate_share)
        )

    def explain(self, params):
        if "share" in params:
            return f"Train with {params['share']:.3g} times each of your learning rates."
        return f"Lower the learning rate to {params['learning_rate']:.3g}."

    def snippet(self, params):
        if "share" in params:
            return (
                "# multiply what every schedule, callback or optimizer has as its learning rate "
                f"by {params['share']:.3g}"
            )
        return f"optimizer.learning_rate = {params['learning_rate']:.3g}"
