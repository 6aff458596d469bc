"""Let the learning rate rise from near zero, for weights that only the first large steps would ruin."""

from nanfix.diagnosis import Cause
from nanfix.setup import has_schedule
from nanfix.strategy import Refusal, Strategy, Tier


class WarmUpLearningRate(Strategy):
    """Use the rate r * min(1, t / w) at step t, the user's r from step w on.

    Searches w as a share of the planned steps. Training starts again from the initial weights. Does not help when the
    rate is too high for the trained weights too, nor where a schedule sets the rate already.

    Reference: Goyal et al. (2017), arXiv:1706.02677, section 2.2 (gradual warmup).
    """

    name = "warm-up-learning-rate"
    tier = Tier.OPTIMIZER
    eases = frozenset({Cause.LEARNING_RATE, Cause.EXPLODING_GRADIENT, Cause.BAD_INITIALIZATION})
    keeps_weights = False
    reference = "Goyal et al. (2017), arXiv:1706.02677"

    def applies(self, diagnosis, setup):
        if not self.answers(diagnosis):
            return False
        if setup.learning_rate is None or has_schedule(setup.model) or setup.stepping.warm_up is not None:
            return Refusal("a schedule sets the learning rate, or nothing does")
        return setup.planned_steps is not None or Refusal("the length of the run is not known")

    def space(self, hp, diagnosis, setup):
        share, planned = hp.Choice("share", [0.1, 0.3]), setup.planned_steps or 0
        return {"steps": max(2, round(share * planned))}

    def apply(self, setup, *, steps):
        return setup.with_stepping(warm_up=steps)

    def explain(self, params):
        return f"Let the learning rate rise from 0 to yours over the first {params['steps']} steps."

    def snippet(self, params):
        return (
            "rate = float(optimizer.learning_rate)\n"
            f"optimizer.learning_rate = keras.optimizers.schedules.PolynomialDecay(rate / {params['steps']}, "
            f"{params['steps']}, end_learning_rate=rate)"
        )
