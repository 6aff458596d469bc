"""Compile the training step without XLA, where only XLA makes it non-finite."""

from nanfix.changes.compilation import Compilation
from nanfix.records.cause import Cause
from nanfix.remedies.strategy import Strategy, Tier


class TurnOffJit(Strategy):
    """Compile the model with `jit_compile=False`: TensorFlow then runs operation by operation, in
    the order in which they are written.

    XLA merges operations and orders them anew. What is finite as it is written may not be so
    between: a / b / c becomes a / (b * c), and b * c may round to 0; where a gradient of 0 meets an
    infinite slope, 0 * inf is NaN, while TensorFlow's own kernel of a root gives 0. The step may be
    slower. Does not help when XLA only shows another way what is wrong anyway, as a NaN for a label
    without a class, at which TensorFlow raises an error without it.

    Reference: TensorFlow, XLA: Known issues, tensorflow.org/xla/known_issues.
    """

    name = "turn-off-jit"
    tier = Tier.NUMERICS
    treats = frozenset({Cause.XLA_ONLY})
    eases = frozenset({Cause.UNKNOWN})
    reference = "TensorFlow, XLA: Known issues, tensorflow.org/xla/known_issues"

    def refusal(self, diagnosis, run, plan):
        return None if run.model.jit_compile else "XLA does not compile this model"

    def space(self, hp, diagnosis, run, plan):
        return {}

    def apply(self, run, plan):
        return plan.with_change(Compilation(jit_compile=False))

    def explain(self, params):
        return "Compile the model without XLA (jit_compile=False)."

    def snippet(self, params):
        return "model.compile(..., jit_compile=False)"
