"""Scale the targets of a regression to unit size, so that the first gradients do not
throw the weights away.
"""

import numpy as np

from nanfix.changes.maps import LOCATION, TargetScaling, moves
from nanfix.changes.scaling import Scaling
from nanfix.data.measured_targets import measured_targets
from nanfix.explain.audit import root_mean_square
from nanfix.explain.growth import LARGE
from nanfix.model.activations import activation_name
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
    The columns of a likelihood, of one target or of several, or of a mixture of them, move with its
    targets, as the loss shows by staying the same: those of its location as the targets, those of
    its scale, variance, precision or their logarithms by the scale alone. Does not help
    classification, nor losses that change in another way than by a factor or a constant when
    targets and outputs are scaled together.

    Reference: LeCun, Bottou, Orr & Mueller (1998), Efficient BackProp, section 4.5;
    sklearn.preprocessing.RobustScaler.
    """

    name = "scale-targets"
    tier = Tier.SCALING
    treats = frozenset({Cause.UNSCALED_TARGET})
    keeps_weights = False
    reference = "LeCun et al. (1998), Efficient BackProp; sklearn.preprocessing.RobustScaler"

    def refusal(self, diagnosis, run, plan):
        moved = [each for each in measured_targets(run) if _moves(run, each).columns]
        if not moved:
            return (
                "the loss is not the same, but for a factor, of targets and outputs that are "
                "scaled together, so nothing would undo the scaling"
            )
        if not any(_is_free(run, each) for each in moved):
            return "no output with such targets comes from a linear layer with a bias"
        return None if _far(run) else "the targets that can be scaled are not far from unit scale"

    def space(self, hp, diagnosis, run, plan):
        return {"outputs": {each.name: _numbers(run, each) for each in _far(run)}}

    def apply(self, run, plan, *, outputs):
        targets = {}
        for name, each in outputs.items():
            center, scale = each["center"], each["scale"]
            if "columns" in each:
                of = each.get("of", [0] * len(each["columns"]))
                center, scale = moves(each["columns"], of, center, scale)
            targets[name] = TargetScaling(tuple(center), tuple(scale), each["degree"])
        return plan.with_change(Scaling(targets=targets))

    def explain(self, params):
        scaled = " and ".join(
            f"({_called(name)} - {_shown(each['center'])}) / {_shown(each['scale'])}"
            for name, each in params["outputs"].items()
        )
        columns = [", ".join(e["columns"]) for e in params["outputs"].values() if "columns" in e]
        moved = f" (the columns move with it: {'; '.join(columns)})" if columns else ""
        return f"Train on {scaled}; predictions stay in your units{moved}."

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
    able = [e for e in measured_targets(run) if _moves(run, e).columns and _is_free(run, e)]
    arrays = run.sample.targets
    return [e for e in able if e.name == OUTPUT or root_mean_square(arrays[e.index]) > LARGE]


def _numbers(run, target):
    values = _known(run.sample.targets[target.index])
    moved = _moves(run, target)
    center, scale = _by_column(values if {*moved.of} != {0} else values.reshape(-1, 1))
    if target.degree and _is_table(run, target, values):
        low, high = np.nanpercentile(values, [25, 75], axis=0)
        # A column that mostly has one value, as an edge of images, has no scale of its own.
        if (high > low).all() and (high - low).max() > LARGE * (high - low).min():
            center, scale = _by_column(values)
    return {
        "center": [float(f"{each:.7g}") for each in center],
        "scale": [float(f"{each:.7g}") for each in scale],
        "degree": moved.power,
        **({"columns": list(moved.columns)} if {*moved.columns} != {LOCATION} else {}),
        **({"of": list(moved.of)} if {*moved.of} != {0} else {}),
    }


def _known(array):
    values = array.astype("float64")
    return np.where(np.isfinite(values), values, np.nan)


def _moves(run, target):
    """Return how the loss of a target goes with it; without columns where scaling could not be
    undone.
    """
    # TensorFlow is loaded when it is needed, not with the catalogue.
    from nanfix.explain.equivariance import NOT_SO, Equivariance, equivariance

    if target.degree:
        return Equivariance(target.degree, (LOCATION,), (0,))
    names = end_names(run)
    at = names.index(target.name) if target.name in names else len(run.output_shapes)
    shape = run.output_shapes[at] if at < len(run.output_shapes) else None
    if target.loss is None or shape is None or None in shape:
        return NOT_SO
    array = run.sample.targets[target.index]
    known = _known(array)
    # Each column of the targets by itself where outputs have one or more for each, else all alike.
    tables = [known] if known.ndim == 2 and known.shape[1] > 1 and len(shape) == 1 else []
    found = NOT_SO
    for table in [*tables, known.reshape(-1, 1)]:
        numbers = [tuple(map(float, each)) for each in _by_column(table)]
        found = equivariance(target.loss, tuple(shape), array.shape[1:], *numbers)
        if table.shape[1] == 1 or any(found.of):
            break
    # Columns of a sequence have no places of their own.
    return found if len(shape) == 1 or {*found.columns} == {LOCATION} else NOT_SO


def _is_free(run, target):
    """Say whether an output can be scaled back, and its columns that are a location come from a
    linear layer: what an activation keeps above 0 would not get below the center.
    """
    if target.name not in run.scalable_outputs:
        return False
    names = end_names(run)
    at = names.index(target.name) if target.name in names else len(run.columns)
    if at >= len(run.columns) or len(run.columns[at]) < 2:
        return True
    givers = [address for address, width in run.columns[at] for _ in range(width)]
    columns = _moves(run, target).columns
    kinds = columns if len(columns) == len(givers) else (LOCATION,) * len(givers)
    return all(
        kind != LOCATION or (giver is not None and activation_name(run.members[giver]) == "linear")
        for giver, kind in zip(givers, kinds, strict=True)
    )


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
