"""Let the learning rate rise from near zero, for weights that only the first large
steps would ruin.
"""

from nanfix.changes.optimizer import OptimizerSettings
from nanfix.model.run import has_schedule
from nanfix.records.cause import Cause
from nanfix.remedies.strategy import Strategy, Tier


class WarmUpLearningRate(Strategy):
    """Use the rate r * min(1, t / w) at step t, the user's r from step w on.

    Searches w as a share of the planned steps. Training starts again from the initial
    weights. Does not help when the rate is too high for the trained weights too, nor
    where a schedule sets the rate already.

    Reference: Goyal et al. (2017), arXiv:1706.02677, section 2.2 (gradual warmup).
    """

    name = "warm-up-learning-rate"
    tier = Tier.OPTIMIZER
    eases = frozenset({Cause.LEARNING_RATE, Cause.EXPLODING_GRADIENT, Cause.BAD_INITIALIZATION})
    keeps_weights = False
    reference = "Goyal et al. (2017), arXiv:1706.02677"

    def refusal(self, diagnosis, run, plan):
        settings = plan.of(OptimizerSettings)
        if (
            settings.learning_rate(run) is None
            or has_schedule(run.model)
            or settings.warm_up is not None
        ):
            return "a schedule sets the learning rate, or nothing does"
        return None if run.planned_steps is not None else "the length of the run is not known"

    def space(self, hp, diagnosis, run, plan):
        share, planned = hp.Choice("share", [0.1, 0.3]), run.planned_steps or 0
        return {"steps": max(2, round(share * planned))}

    def apply(self, run, plan, *, steps):
        return plan.with_change(OptimizerSettings(warm_up=steps))

    def explain(self, params):
        return f"Let the learning rate rise from 0 to yours over the first {params['steps']} steps."

    def snippet(self, params):
        return (
            "rate = float(optimizer.learning_rate)\n"
            "optimizer.learning_rate = keras.optimizers.schedules.PolynomialDecay(rate / "
            f"{params['steps']}, {params['steps']}, end_learning_rate=rate)"
        )
