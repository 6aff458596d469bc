"""Count class labels from 0, or leave out rows whose label is no class of the output layer, or
whose share of a class is negative.
"""

import numpy as np

from nanfix.changes.rows import RowFilter
from nanfix.data.row_rules import keep
from nanfix.model.crossentropies import are_outweighed, has_negative_shares, takes_logits
from nanfix.model.outputs import class_count
from nanfix.records.cause import Cause
from nanfix.remedies.strategy import Strategy, Tier

ROWS_A_CLASS = 10  # so many rows without a class of the usual size come about once in 20,000


class DropInvalidLabels(Strategy):
    """Subtract 1 from labels that all lie in 1..classes; else leave out the rows whose
    label is not in 0..classes - 1. Of targets that are shares of the classes, leave out the rows
    with a negative one, with which the loss was seen to fall for ever, where these far outweigh
    the others.

    Class weights are renumbered with the labels. After a shift the model predicts the class counted
    from 0. Does not help when labels are numbered with gaps, nor when the output layer has too few
    units for the classes there are: leaving those rows out loses classes.

    Reference: keras.losses.SparseCategoricalCrossentropy, which takes integers in 0..classes - 1.
    """

    name = "drop-invalid-labels"
    tier = Tier.DATA
    treats = frozenset({Cause.INVALID_LABEL, Cause.NO_LOWER_BOUND})
    discards_data = True
    reference = "keras.losses.SparseCategoricalCrossentropy"

    def refusal(self, diagnosis, run, plan):
        if run.sample.unfilterable:
            return run.sample.unfilterable
        rows = _rows_kept(run)
        if rows is None:
            return "the targets are no class indices of a single output layer, nor negative shares"
        falls = Cause.NO_LOWER_BOUND in diagnosis.causes
        if falls and not takes_logits(run.user_loss) and not are_outweighed(run.sample.targets):
            return "there is as much to learn towards as away from, and rows need not be lost"
        kept = keep(rows, run.sample.inputs, run.sample.targets)
        return None if bool(kept.any()) else "no label is a class of the output layer"

    def space(self, hp, diagnosis, run, plan):
        labels = _rows_kept(run)
        assert labels is not None, "space is asked only where the strategy applies"
        params = {"classes": labels.classes, "first_label": labels.first_label}
        params |= {"shares": True} if labels.shares else {}
        if run.sample.whole is None:
            return {**params, "rows": None, "of": None}
        kept = keep(labels, *run.sample.whole)
        return {**params, "rows": np.flatnonzero(~kept).tolist(), "of": len(kept)}

    def apply(self, run, plan, *, classes, first_label, rows, of, shares=False):
        # Which rows is decided anew on the data at hand; the numbers are for whoever reads the fix.
        return plan.with_change(RowFilter(classes=classes, first_label=first_label, shares=shares))

    def explain(self, params):
        if params["first_label"]:
            return (
                f"Count the class labels from 0 instead of {params['first_label']}, as the output "
                "layer does."
            )
        which = "negative share of a class"
        if not params.get("shares"):
            which = f"label outside 0 to {params['classes'] - 1}"
        if not params["rows"]:
            return f"Leave out every row with a {which}."
        return f"Leave out {len(params['rows'])} of {params['of']} rows, those with a {which}."

    def snippet(self, params):
        if params["first_label"]:
            return f"y = y - {params['first_label']}"
        if params.get("shares"):
            return "keep = (y >= 0).all(axis=1)\nX, y = X[keep], y[keep]"
        return f"keep = (y >= 0) & (y < {params['classes']})\nX, y = X[keep], y[keep]"


def _rows_kept(run) -> RowFilter | None:
    """Return what keeps the rows whose targets a crossentropy takes; None where they are neither
    class indices nor shares of which some are negative.
    """
    if len(run.sample.targets) != 1:
        return None
    classes = class_count(run)
    if classes is not None:
        return _labels_kept(run, classes)
    negative = has_negative_shares(run.user_loss, run.sample.targets)
    return RowFilter(shares=True) if negative and run.sample.targets[0].ndim == 2 else None


def _labels_kept(run, classes: int) -> RowFilter:
    """Return the shift under which all labels fit, or else the filter for those that do.

    Of a stream only some labels are known: there it takes every label from 1 to classes, or so many
    rows that one of label 0 would be among them, to tell that none is 0.
    """
    whole = run.sample.whole
    labels = (run.sample.targets if whole is None else whole[1])[0]
    seen = np.unique(labels)
    enough = whole is not None or len(seen) == classes or len(labels) >= ROWS_A_CLASS * classes
    one_based = seen[0] >= 1 and seen[-1] == classes and enough
    return RowFilter(classes=classes, first_label=int(one_based))
