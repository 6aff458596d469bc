"""Clip the gradient at what its norm has usually been, so that the limit follows the training."""

from nanfix.changes.optimizer import AdaptiveClip as Change
from nanfix.changes.optimizer import OptimizerSettings
from nanfix.records.cause import Cause
from nanfix.remedies.strategy import Strategy, Tier


class AdaptiveClip(Strategy):
    """Clip the norm of the gradient where it is z > k deviations above its running mean m, to
    m + k**2 / z deviations: a spike comes the nearer to the mean the farther out it is.

    Mean and variance move by 0.03 of the way to each norm, as it was clipped. The mean starts at
    the last finite norm, or at the norm of the weights where that is smaller, the deviation at a
    quarter of it. Searches k. The limit that it ends at, m and k deviations, stays with the
    optimizer as global_clipnorm. Does not help when the gradient itself is non-finite, nor where it
    grows slowly and m with it.

    Reference: Kumar et al. (2025), ZClip, arXiv:2504.02507.
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
    reference = "Kumar et al. (2025), arXiv:2504.02507"

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
            "deviations": hp.Choice("deviations", [2.5, 1.0]),
            "norm": float(f"{diagnosis.step_norm:.3g}"),
        }

    def apply(self, run, plan, *, deviations, norm):
        # Keras' own clipping would come in its place.
        plan = plan.with_change(
            OptimizerSettings({"clipnorm": None, "clipvalue": None, "global_clipnorm": None})
        )
        return plan.with_change(OptimizerSettings(adaptive_clip=Change(deviations, norm)))

    def explain(self, params):
        return (
            f"Clip the gradient's global norm {params['deviations']:g} deviations above its "
            f"running mean, which starts at {params['norm']:.3g}."
        )

    def snippet(self, params):
        return (
            f"optimizer.global_clipnorm = {2.0 * params['norm']:.3g}  # above the usual norm, and "
            "below its spikes"
        )
