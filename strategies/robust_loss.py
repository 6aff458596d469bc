"""Train on a loss whose gradient does not grow with the error, so that a few wrong targets cannot
throw the weights away.
"""

import numpy as np

from nanfix.changes.loss import Loss
from nanfix.changes.loss import RobustLoss as Change
from nanfix.model.crossentropies import loss_name
from nanfix.records.cause import Cause
from nanfix.remedies.strategy import Strategy, Tier


class RobustLoss(Strategy):
    """Minimize 2 * Huber(e) = e**2 for |e| <= d and d * (2 |e| - d) beyond, instead of
    the squared error e**2.

    Searches d as a share of the interquartile range of the targets. The user's own loss goes on
    judging in this training; the repaired model is compiled with the Huber loss, so that a further
    one stays finite, too. Does not help when all targets are large, which calls for scaling them,
    nor losses other than the squared error.

    Reference: Huber (1964), Robust Estimation of a Location Parameter, doi:10.1214/aoms/1177703732.
    """

    name = "robust-loss"
    tier = Tier.NUMERICS
    treats = frozenset({Cause.OUTLIER})
    eases = frozenset({Cause.UNSCALED_TARGET, Cause.LEARNING_RATE, Cause.EXPLODING_GRADIENT})
    reference = "Huber (1964), doi:10.1214/aoms/1177703732"

    def refusal(self, diagnosis, run, plan):
        if len(run.sample.targets) != 1 or loss_name(run.user_loss) != "mean_squared_error":
            return "the loss is not the squared error of a single output"
        return (
            None
            if (plan.of(Loss) == Loss() and run.has_stock_objective)
            else "the loss is computed in another way already"
        )

    def space(self, hp, diagnosis, run, plan):
        share = hp.Choice("share", [1.0, 0.1])
        values = run.sample.targets[0].astype("float64")
        values = values[np.isfinite(values)]
        spread = np.subtract(*np.percentile(values, [75, 25])) or values.std() or 1.0
        return {"loss": "Huber", "delta": float(f"{share * spread:.3g}"), "factor": 2.0}

    def apply(self, run, plan, *, loss, delta, factor):
        return plan.with_change(Change(loss, (("delta", delta),), factor))

    def explain(self, params):
        return (
            f"Train on the Huber loss with delta {params['delta']:.3g}; your loss goes on judging "
            "this training."
        )

    def snippet(self, params):
        return f"loss = keras.losses.{params['loss']}(delta={params['delta']:.3g})"
