"""Train with Adam, whose steps do not grow with the gradient."""

from nanfix.diagnosis import Cause
from nanfix.optimizers import trained_slots
from nanfix.strategy import Refusal, Strategy, Tier


class SwapOptimizer(Strategy):
    """Use Adam: a step is about the learning rate, whatever the size of the gradient g, as m / (sqrt(v) + epsilon).

    A fresh optimizer with its own learning rate takes the place of the user's; its memory starts empty. Does not help
    when the gradient is non-finite, nor much where the user's optimizer is an adaptive one already.

    Reference: Kingma & Ba (2015), arXiv:1412.6980, Algorithm 1.
    """

    name = "swap-optimizer"
    tier = Tier.OPTIMIZER
    treats = frozenset(
        {Cause.LEARNING_RATE, Cause.EXPLODING_GRADIENT, Cause.UNSCALED_INPUT, Cause.UNSCALED_TARGET, Cause.BAD_INITIALIZATION}
    )
    reference = "Kingma & Ba (2015), arXiv:1412.6980"

    def applies(self, diagnosis, setup):
        if not self.answers(diagnosis):
            return False
        kinds = {type(slot.optimizer).__name__ for slot in trained_slots(setup.model)}
        return kinds <= {"SGD", "Adagrad", "Adadelta", "RMSprop"} or Refusal(
            "the optimizer adapts its steps already, or is the user's own"
        )

    def space(self, hp, diagnosis, setup):
        return {"optimizer": "Adam", "learning_rate": hp.Choice("learning_rate", [3e-3, 1e-3])}

    def apply(self, setup, *, optimizer, learning_rate):
        return setup.with_optimizer_class(optimizer, learning_rate=learning_rate)

    def explain(self, params):
        return f"Train with {params['optimizer']} at a learning rate of {params['learning_rate']:.3g}."

    def snippet(self, params):
        return f"optimizer = keras.optimizers.{params['optimizer']}({params['learning_rate']:.3g})"
