"""Train with Adam, whose steps do not grow with the gradient."""

from nanfix.changes.optimizer import OptimizerSettings
from nanfix.model.crossentropies import has_negative_shares
from nanfix.model.optimizers import trained_slots
from nanfix.records.cause import Cause
from nanfix.remedies.strategy import Strategy, Tier


class SwapOptimizer(Strategy):
    """Use Adam: a step is about the learning rate, whatever the size of the gradient g, as m /
    (sqrt(v) + epsilon).

    A fresh optimizer with its own learning rate takes the place of the user's; its memory starts
    empty. Does not help when the gradient is non-finite, nor much where the user's optimizer is an
    adaptive one already.

    Reference: Kingma & Ba (2015), arXiv:1412.6980, Algorithm 1.
    """

    name = "swap-optimizer"
    tier = Tier.OPTIMIZER
    treats = frozenset(
        {
            Cause.LEARNING_RATE,
            Cause.EXPLODING_GRADIENT,
            Cause.UNSCALED_INPUT,
            Cause.UNSCALED_TARGET,
            Cause.BAD_INITIALIZATION,
        }
    )
    reference = "Kingma & Ba (2015), arXiv:1412.6980"

    def refusal(self, diagnosis, run, plan):
        kinds = {type(slot.optimizer).__name__ for slot in trained_slots(run.model)}
        plain = kinds <= {"SGD", "Adagrad", "Adadelta", "RMSprop"}
        return None if plain else "the optimizer adapts its steps already, or is the user's own"

    def space(self, hp, diagnosis, run, plan):
        # A small network takes more in few steps, which shows where the loss has a least value; the
        # last holds where more fails.
        if not has_negative_shares(run.user_loss, run.sample.targets):
            rate = hp.Choice("learning_rate", [3e-3, 1e-2, 1e-3])
        else:
            rate = hp.Choice("learning_rate", [3e-3, 1e-3])
        return {"optimizer": "Adam", "learning_rate": rate}

    def apply(self, run, plan, *, optimizer, learning_rate):
        return plan.with_change(
            OptimizerSettings({"learning_rate": learning_rate}, class_name=optimizer)
        )

    def explain(self, params):
        return (
            f"Train with {params['optimizer']} at a learning rate of {params['learning_rate']:.3g}."
        )

    def snippet(self, params):
        return f"optimizer = keras.optimizers.{params['optimizer']}({params['learning_rate']:.3g})"
