"""Clip the gradient at what its norm has usually been, so that the limit follows the training."""

from nanfix.changes.optimizer import AdaptiveClip as Change
from nanfix.changes.optimizer import OptimizerSettings
from nanfix.records.cause import Cause
from nanfix.remedies.strategy import Strategy, Tier


class AdaptiveClip(Strategy):
    """Rescale the gradient g to g * min(1, s * q / ||g||) with q the running median of ||g||.

    The estimate moves by q * exp(0.1 * (1/2 - [||g|| < q])) each step and starts at the last finite
    norm, or at the norm of the weights where that is smaller. Searches the share s. The norm that
    it ends at stays with the optimizer as global_clipnorm. Does not help when the gradient itself
    is non-finite, nor where it grows slowly and q with it.

    Reference: Seetharaman et al. (2020), AutoClip, arXiv:2007.14469, with a running quantile for
    the history of norms.
    """

    name = "adaptive-clip"
    tier = Tier.OPTIMIZER
    eases = frozenset(
        {
            Cause.EXPLODING_GRADIENT,
            Cause.LEARNING_RATE,
            Cause.UNSCALED_TARGET,
            Cause.UNSTABLE_RECURRENCE,
            Cause.OUTLIER,
        }
    )
    reference = "Seetharaman et al. (2020), arXiv:2007.14469"

    def refusal(self, diagnosis, run, plan):
        if (
            plan.of(OptimizerSettings).clips(run)
            or plan.of(OptimizerSettings).adaptive_clip is not None
        ):
            return "the optimizer clips already"
        if diagnosis.step_norm is None:
            return "no finite gradient was seen"
        return None if run.replicas == 1 else "several devices train together"

    def space(self, hp, diagnosis, run, plan):
        return {
            "quantile": 0.5,
            "share": hp.Choice("share", [1.0, 0.1]),
            "norm": float(f"{diagnosis.step_norm:.3g}"),
        }

    def apply(self, run, plan, *, quantile, share, norm):
        # Keras' own clipping would come in its place.
        plan = plan.with_change(
            OptimizerSettings({"clipnorm": None, "clipvalue": None, "global_clipnorm": None})
        )
        return plan.with_change(OptimizerSettings(adaptive_clip=Change(quantile, share, norm)))

    def explain(self, params):
        start = f"which starts at {params['norm']:.3g}"
        return (
            f"Clip the gradient's global norm at {params['share']:g} times its running median, "
            f"{start}."
        )

    def snippet(self, params):
        return (
            f"optimizer.global_clipnorm = {params['share'] * params['norm']:.3g}  # the median of "
            "the norms seen so far"
        )
