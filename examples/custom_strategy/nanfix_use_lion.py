"""Train with Lion, whose step divides by nothing, so that no gradient is too large or too small for it."""

from nanfix import Cause, Strategy, Tier
from nanfix.changes.optimizer import OptimizerSettings

# Each divides a step by what it remembers of the size of the gradients.
DIVIDING = ("Adam", "AdamW", "Nadam", "Adamax", "Adafactor", "RMSprop", "Adagrad", "Adadelta")


class UseLion(Strategy):
    """Move every weight by r * sign(0.9 m + 0.1 g) with m <- 0.99 m + 0.01 g: by the rate r, however large g is.

    Adam divides by sqrt(v) + epsilon instead, where v is a mean of g**2. In half precision v stays 0 below |g| = 5e-3, so that
    epsilon alone is left to divide by, and g**2 is inf from |g| = 256 on. A fresh Lion with a rate of its own takes the place
    of the user's optimizer and its schedule. Searches r. Does not help when the gradient itself is NaN, nor in the place of
    SGD, which divides by nothing either.

    Reference: Chen et al. (2023), Symbolic Discovery of Optimization Algorithms, arXiv:2302.06675, Algorithm 2.
    """

    name = "use-lion"
    tier = Tier.OPTIMIZER
    treats = frozenset({Cause.OPTIMIZER_CONSTANT})
    eases = frozenset({Cause.REDUCED_PRECISION, Cause.LEARNING_RATE})
    reference = "Chen et al. (2023), arXiv:2302.06675"

    def refusal(self, diagnosis, run, plan):
        divides = type(run.model.optimizer).__name__ in DIVIDING and plan.of(OptimizerSettings).class_name is None
        return None if divides else "the optimizer divides by no root, or is another one already"

    def space(self, hp, diagnosis, run, plan):
        return {"learning_rate": hp.Choice("learning_rate", [3e-3, 1e-3, 3e-4])}

    def apply(self, run, plan, *, learning_rate):
        return plan.with_change(OptimizerSettings({"learning_rate": learning_rate}, class_name="Lion"))

    def explain(self, params):
        return f"Train with Lion at a learning rate of {params['learning_rate']:.3g}."

    def snippet(self, params):
        return f"optimizer = keras.optimizers.Lion({params['learning_rate']:.3g})"
