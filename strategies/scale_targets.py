"""Scale the targets of a regression to unit size, so that the first gradients do not
throw the weights away.
"""

import numpy as np

from nanfix.changes.maps import TargetScaling
from nanfix.changes.scaling import Scaling
from nanfix.model.crossentropies import loss_name
from nanfix.records.cause import Cause
from nanfix.remedies.strategy import Strategy, Tier

DEGREES = {"mean_squared_error": 2, "mean_absolute_error": 1, "huber": 1, "log_cosh": 1}


class ScaleTargets(Strategy):
    """Train on (y - median) / (interquartile range) while the model goes on predicting
    y in the user's units.

    The inverse, center + scale * f(x), stands behind the last layer, and gives it the gradient of
    the scaled targets in a further training, too; where nothing can be put there, it is folded into
    the last layer. A target whose interquartile range is zero is divided by its standard deviation.
    Does not help classification, nor losses that are no power of the error.

    Reference: LeCun, Bottou, Orr & Mueller (1998), Efficient BackProp, section 4.5;
    sklearn.preprocessing.RobustScaler.
    """

    name = "scale-targets"
    tier = Tier.SCALING
    treats = frozenset({Cause.UNSCALED_TARGET})
    keeps_weights = False
    reference = "LeCun et al. (1998), Efficient BackProp; sklearn.preprocessing.RobustScaler"

    def refusal(self, diagnosis, run, plan):
        if loss_name(run.user_loss) not in DEGREES:
            return "the loss is no power of the error"
        return (
            None
            if run.output_foldable
            else "the single output does not come from a linear layer with a bias"
        )

    def space(self, hp, diagnosis, run, plan):
        values = run.sample.targets[0].astype("float64")
        values = values[np.isfinite(values)]
        low, center, high = np.percentile(values, [25, 50, 75])
        scale = high - low if high - low > 1e-12 * abs(center) else values.std()
        degree = DEGREES[loss_name(run.user_loss)]
        return {
            "center": float(f"{center:.7g}"),
            "scale": float(f"{scale or 1.0:.7g}"),
            "degree": degree,
        }

    def apply(self, run, plan, *, center, scale, degree):
        return plan.with_change(Scaling(targets=TargetScaling(center, scale, degree)))

    def explain(self, params):
        return (
            f"Train on (y - {params['center']:.4g}) / {params['scale']:.4g}; predictions stay in "
            "your units."
        )

    def snippet(self, params):
        return (
            f"y = (y - {params['center']:.7g}) / {params['scale']:.7g}  # and undo it on the "
            "predictions"
        )
