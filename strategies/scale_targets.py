"""Scale the targets of a regression to unit size, so that the first gradients do not
throw the weights away.
"""

import numpy as np

from nanfix.changes.maps import TargetScaling
from nanfix.changes.scaling import Scaling
from nanfix.data.measured_targets import measured_targets
from nanfix.explain.audit import root_mean_square
from nanfix.explain.growth import LARGE
from nanfix.model.crossentropies import loss_name
from nanfix.model.outputs import OUTPUT
from nanfix.records.cause import Cause
from nanfix.remedies.strategy import Strategy, Tier

DEGREES = {"mean_squared_error": 2, "mean_absolute_error": 1, "huber": 1, "log_cosh": 1}


class ScaleTargets(Strategy):
    """Train on (y - median) / (interquartile range) while the model goes on predicting
    y in the user's units.

    The inverse, center + scale * f(x), stands behind the last layer, and gives it the gradient of
    the scaled targets in a further training, too; where nothing can be put there, it is folded into
    the last layer. A target whose interquartile range is zero is divided by its standard deviation.
    Of several outputs those are scaled whose targets are far from unit scale, each by itself.
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
        powers = [each for each in measured_targets(run) if loss_name(each.loss) in DEGREES]
        if not powers:
            return "the loss is no power of the error"
        if not any(each.name in run.scalable_outputs for each in powers):
            return "no output with such targets comes from a linear layer with a bias"
        return None if _far(run) else "the targets that can be scaled are not far from unit scale"

    def space(self, hp, diagnosis, run, plan):
        return {"outputs": {each.name: _numbers(run, each) for each in _far(run)}}

    def apply(self, run, plan, *, outputs):
        targets = {name: TargetScaling(**numbers) for name, numbers in outputs.items()}
        return plan.with_change(Scaling(targets=targets))

    def explain(self, params):
        scaled = " and ".join(
            f"({_called(name)} - {numbers['center']:.4g}) / {numbers['scale']:.4g}"
            for name, numbers in params["outputs"].items()
        )
        return f"Train on {scaled}; predictions stay in your units."

    def snippet(self, params):
        return "\n".join(
            f"{_called(name)} = ({_called(name)} - {numbers['center']:.7g}) / "
            f"{numbers['scale']:.7g}  # and undo it on the predictions"
            for name, numbers in params["outputs"].items()
        )


def _far(run):
    """Return the targets to scale: those of the only output, of several those that are far from
    unit scale.
    """
    able = [
        each
        for each in measured_targets(run)
        if loss_name(each.loss) in DEGREES and each.name in run.scalable_outputs
    ]
    arrays = run.sample.targets
    return [e for e in able if e.name == OUTPUT or root_mean_square(arrays[e.index]) > LARGE]


def _numbers(run, target):
    values = run.sample.targets[target.index].astype("float64")
    values = values[np.isfinite(values)]
    low, center, high = np.percentile(values, [25, 50, 75])
    scale = high - low if high - low > 1e-12 * abs(center) else values.std()
    return {
        "center": float(f"{center:.7g}"),
        "scale": float(f"{scale or 1.0:.7g}"),
        "degree": DEGREES[loss_name(target.loss)],
    }


def _called(name):
    return "y" if name == OUTPUT else f'y["{name}"]'
