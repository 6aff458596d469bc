"""Count class labels from 0, or leave out rows whose label is no class of the output layer, or
whose share of a class is negative.
"""

import numpy as np

from nanfix.changes.maps import Affine
from nanfix.changes.rows import RowFilter
from nanfix.data.row_rules import keep
from nanfix.model.crossentropies import Targets, class_count, crossentropy_of
from nanfix.records.cause import Cause
from nanfix.remedies.strategy import Strategy, Tier


class DropInvalidLabels(Strategy):
    """Subtract 1 from labels that all lie in 1..classes; else leave out the rows whose
    label is not in 0..classes - 1. Of targets that are shares of the classes, leave out the rows
    with a negative one: there a crossentropy has no lower bound.

    Class weights are renumbered with the labels. After a shift the model predicts the class counted
    from 0. Does not help when labels are numbered with gaps, nor when the output layer has too few
    units for the classes there are: leaving those rows out loses classes.

    Reference: keras.losses.SparseCategoricalCrossentropy, which takes integers in 0..classes - 1,
    and CategoricalCrossentropy, which takes shares.
    """

    name = "drop-invalid-labels"
    tier = Tier.DATA
    treats = frozenset({Cause.INVALID_LABEL})
    discards_data = True
    reference = "keras.losses.SparseCategoricalCrossentropy"

    def refusal(self, diagnosis, run, plan):
        if run.sample.unfilterable:
            return run.sample.unfilterable
        kept = _kept(run)
        if kept is None:
            return "the targets are neither class indices nor shares of a single output layer"
        some = bool(keep(kept, run.sample.inputs, run.sample.targets).any())
        return None if some else "no label is a class of the output layer"

    def space(self, hp, diagnosis, run, plan):
        kept = _kept(run)
        assert kept is not None, "space is asked only where the strategy applies"
        params = {
            "classes": kept.classes,
            "first_label": kept.first_label,
            "halves": list(kept.bands[0][1].scale) if kept.bands else None,
        }
        if run.sample.whole is None:
            return {**params, "rows": None, "of": None}
        rows = keep(kept, *run.sample.whole)
        return {**params, "rows": np.flatnonzero(~rows).tolist(), "of": len(rows)}

    def apply(self, run, plan, *, classes, first_label, halves, rows, of):
        # Which rows is decided anew on the data at hand; the numbers are for whoever reads the fix.
        bands = () if halves is None else _positive(run, halves)
        return plan.with_change(RowFilter(classes=classes, first_label=first_label, bands=bands))

    def explain(self, params):
        if params["first_label"]:
            return (
                f"Count the class labels from 0 instead of {params['first_label']}, as the output "
                "layer does."
            )
        which = "negative share of a class"
        if params["halves"] is None:
            which = f"label outside 0 to {params['classes'] - 1}"
        if not params["rows"]:
            return f"Leave out every row with a {which}."
        return f"Leave out {len(params['rows'])} of {params['of']} rows, those with a {which}."

    def snippet(self, params):
        if params["first_label"]:
            return f"y = y - {params['first_label']}"
        if params["halves"] is not None:
            return "keep = (y >= 0).all(axis=1)\nX, y = X[keep], y[keep]"
        return f"keep = (y >= 0) & (y < {params['classes']})\nX, y = X[keep], y[keep]"


def _kept(run) -> RowFilter | None:
    """Return what keeps the rows whose targets a crossentropy takes; None where they are neither
    indices nor shares of the classes of a single output layer.
    """
    if len(run.sample.targets) != 1:
        return None
    classes, crossentropy = class_count(run.model, run.user_loss), crossentropy_of(run.user_loss)
    if classes is not None:
        return _labels_kept(run, classes)
    shares = run.sample.targets[0]
    if crossentropy is None or crossentropy.targets is not Targets.SHARES or shares.ndim != 2:
        return None
    whole = shares if run.sample.whole is None else run.sample.whole[1][0]
    highest = np.nanmax(np.asarray(whole, "float64"), axis=0, initial=1.0)
    return RowFilter(bands=_positive(run, (highest / 2).tolist()))


def _positive(run, halves) -> tuple[tuple[int, Affine], ...]:
    """Return the band from 0 to twice these numbers, one for each class."""
    return ((len(run.sample.inputs), Affine(tuple(halves), tuple(halves))),)


def _labels_kept(run, classes: int) -> RowFilter:
    """Return the shift under which all labels fit, or else the filter for those that do.

    Of a stream only some labels are known: there it takes every label from 1 to classes
    to tell that none is 0.
    """
    whole = run.sample.whole
    seen = np.unique((run.sample.targets if whole is None else whole[1])[0])
    one_based = seen[0] >= 1 and seen[-1] == classes and (whole is not None or len(seen) == classes)
    return RowFilter(classes=classes, first_label=int(one_based))
