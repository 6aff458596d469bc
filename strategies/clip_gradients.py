"""Clip the gradient's global norm, so one bad batch cannot throw the weights far away."""

from nanfix.changes.optimizer import OptimizerSettings
from nanfix.records.cause import Cause
from nanfix.remedies.strategy import Strategy, Tier


class ClipGradients(Strategy):
    """Rescale the gradient g to g * min(1, c / ||g||), the norm taken over all variables.

    Searches c as a share of the last finite gradient norm, and, where that is itself far above the
    norm of the weights, of the weight norm: a step of the size of the weights is never meant. Does
    not help when the gradient itself is non-finite: 0 * inf is NaN.

    Reference: Pascanu, Mikolov & Bengio (2013), arXiv:1211.5063, Algorithm 1.
    """

    name = "clip-gradients"
    tier = Tier.OPTIMIZER
    treats = frozenset(
        {
            Cause.EXPLODING_GRADIENT,
            Cause.LEARNING_RATE,
            Cause.UNSCALED_TARGET,
            Cause.UNSCALED_INPUT,
            Cause.BAD_INITIALIZATION,
            Cause.UNSTABLE_RECURRENCE,
        }
    )
    reference = "Pascanu, Mikolov & Bengio (2013), arXiv:1211.5063"

    def refusal(self, diagnosis, run, plan):
        if plan.of(OptimizerSettings).clips(run):
            return "the optimizer clips already"
        measured = diagnosis.gradient_norm is not None and (
            diagnosis.gradient_norm > 0 or bool(diagnosis.weight_norm)
        )
        return None if measured else "no finite gradient was seen"

    def space(self, hp, diagnosis, run, plan):
        share = hp.Choice("share", [1.0, 0.1, 0.01])
        return {"global_clipnorm": float(f"{share * diagnosis.step_norm:.3g}")}

    def apply(self, run, plan, *, global_clipnorm):
        # Keras accepts one clipping option at a time, so the other two are cleared.
        return plan.with_change(
            OptimizerSettings(
                {"clipnorm": None, "clipvalue": None, "global_clipnorm": global_clipnorm}
            )
        )

    def explain(self, params):
        return (
            f"Clip the gradient's global norm at {params['global_clipnorm']:.3g} (global_clipnorm)."
        )

    def snippet(self, params):
        return (
            f"optimizer.global_clipnorm = {params['global_clipnorm']:.3g}  # or "
            "global_clipnorm=... when creating it"
        )
