"""Use a finite learning rate where a schedule or a callback gives none."""

import math

from nanfix.changes.optimizer import OptimizerSettings
from nanfix.model.optimizers import usual_rate
from nanfix.records.cause import Cause
from nanfix.remedies.strategy import Strategy, Tier


class FiniteLearningRate(Strategy):
    """Take the last finite rate in every step for which the schedule or callback gives NaN or inf.

    Where there was none before, Keras' default for the optimizer. All other steps keep their rates.
    Mend what computes the rate, too: what it gives beyond is a guess of nanfix's. Does not help
    where the rate is finite.

    Reference: Keras, keras.optimizers.schedules.LearningRateSchedule.
    """

    name = "finite-learning-rate"
    tier = Tier.OPTIMIZER
    treats = frozenset({Cause.NONFINITE_RATE})
    reference = "Keras, keras.optimizers.schedules.LearningRateSchedule"

    def refusal(self, diagnosis, run, plan):
        if plan.of(OptimizerSettings).finite_rate is not None:
            return "the learning rate is kept finite already"
        return None if run.optimizers else "there is no optimizer with a learning rate"

    def space(self, hp, diagnosis, run, plan):
        rate = diagnosis.earlier_rate
        known = rate is not None and math.isfinite(rate) and rate > 0.0
        return {"rate": float(f"{rate:.3g}") if known else usual_rate(run.optimizers[0])}

    def apply(self, run, plan, *, rate):
        return plan.with_change(OptimizerSettings(finite_rate=rate))

    def explain(self, params):
        return f"Use a learning rate of {params['rate']:.3g} in steps that have no finite one."

    def snippet(self, params):
        rate = f"{params['rate']:.3g}"
        return f"rate = ops.where(ops.isfinite(rate), rate, {rate})  # in the schedule"
