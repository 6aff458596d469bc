"""Scale the targets of a regression to unit size, so that the first gradients do not
throw the weights away.
"""

import numpy as np

from nanfix.changes.maps import TargetScaling
from nanfix.changes.scaling import Scaling
from nanfix.data.measured_targets import measured_targets
from nanfix.explain.audit import root_mean_square
from nanfix.explain.growth import LARGE
from nanfix.model.outputs import OUTPUT, end_names
from nanfix.records.cause import Cause
from nanfix.remedies.strategy import Strategy, Tier

SHOWN = 3  # columns whose numbers are shown


class ScaleTargets(Strategy):
    """Train on (y - median) / (interquartile range) while the model goes on predicting
    y in the user's units.

    The inverse, center + scale * f(x), stands behind the last layer, and gives it the gradient of
    the scaled targets in a further training, too; where nothing can be put there, it is folded into
    the last layer. A target whose interquartile range is zero is divided by its standard deviation.
    Of several outputs those are scaled whose targets are far from unit scale, each by itself, and
    so is each column of a table of targets whose columns differ in scale by more than ten times.
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
        powers = [each for each in measured_targets(run) if each.degree]
        if not powers:
            return "the loss is no power of the error, so nothing would undo the scaling"
        if not any(each.name in run.scalable_outputs for each in powers):
            return "no output with such targets comes from a linear layer with a bias"
        return None if _far(run) else "the targets that can be scaled are not far from unit scale"

    def space(self, hp, diagnosis, run, plan):
        return {"outputs": {each.name: _numbers(run, each) for each in _far(run)}}

    def apply(self, run, plan, *, outputs):
        targets = {
            name: TargetScaling(tuple(each["center"]), tuple(each["scale"]), each["degree"])
            for name, each in outputs.items()
        }
        return plan.with_change(Scaling(targets=targets))

    def explain(self, params):
        scaled = " and ".join(
            f"({_called(name)} - {_shown(each['center'])}) / {_shown(each['scale'])}"
            for name, each in params["outputs"].items()
        )
        return f"Train on {scaled}; predictions stay in your units."

    def snippet(self, params):
        return "\n".join(
            f"{_called(name)} = ({_called(name)} - {_written(each['center'])}) / "
            f"{_written(each['scale'])}  # and undo it on the predictions"
            for name, each in params["outputs"].items()
        )


def _far(run):
    """Return the targets to scale: those of the only output, of several those that are far from
    unit scale.
    """
    able = [
        each for each in measured_targets(run) if each.degree and each.name in run.scalable_outputs
    ]
    arrays = run.sample.targets
    return [e for e in able if e.name == OUTPUT or root_mean_square(arrays[e.index]) > LARGE]


def _numbers(run, target):
    values = run.sample.targets[target.index].astype("float64")
    values = np.where(np.isfinite(values), values, np.nan)
    center, scale = _by_column(values.reshape(-1, 1))
    if _is_table(run, target, values):
        low, high = np.nanpercentile(values, [25, 75], axis=0)
        # A column that mostly has one value, as an edge of images, has no scale of its own.
        if (high > low).all() and (high - low).max() > LARGE * (high - low).min():
            center, scale = _by_column(values)
    return {
        "center": [float(f"{each:.7g}") for each in center],
        "scale": [float(f"{each:.7g}") for each in scale],
        "degree": target.degree,
    }


def _is_table(run, target, values):
    """Say whether an output has a unit for each column of its targets, of which all are known."""
    names = end_names(run)
    shape = run.output_shapes[names.index(target.name)] if target.name in names else ()
    same = values.ndim == 2 and shape == values.shape[1:]
    return same and bool(np.isfinite(values).any(axis=0).all())


def _by_column(table):
    """Return the median and the interquartile range of each column, where that is 0 its standard
    deviation, and 1 of a constant.
    """
    low, center, high = np.nanpercentile(table, [25, 50, 75], axis=0)
    scale = np.where(high - low > 1e-12 * abs(center), high - low, np.nanstd(table, axis=0))
    return center, np.where(scale > 0, scale, 1.0)


def _called(name):
    return "y" if name == OUTPUT else f'y["{name}"]'


def _shown(numbers):
    words = [f"{each:.4g}" for each in numbers[:SHOWN]]
    more = ", ..." if len(numbers) > SHOWN else ""
    return words[0] if len(numbers) == 1 else f"[{', '.join(words)}{more}]"


def _written(numbers):
    return f"{numbers[0]:.7g}" if len(numbers) == 1 else f"np.array({numbers})"
