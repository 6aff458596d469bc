"""Count class labels from 0, or leave out rows whose label is no class of the output layer."""

import numpy as np

from nanfix.changes import RowFilter
from nanfix.crossentropies import class_count
from nanfix.diagnosis import Cause
from nanfix.row_rules import keep
from nanfix.strategy import Refusal, Strategy, Tier


class DropInvalidLabels(Strategy):
    """Subtract 1 from labels that all lie in 1..classes; else leave out the rows whose label is not in 0..classes - 1.

    Class weights are renumbered with the labels. After a shift the model predicts the class counted from 0. Does not help
    when labels are numbered with gaps, nor when the output layer has too few units for the classes there are: leaving
    those rows out loses classes.

    Reference: keras.losses.SparseCategoricalCrossentropy, which takes integers in 0..classes - 1.
    """

    name = "drop-invalid-labels"
    tier = Tier.DATA
    treats = frozenset({Cause.INVALID_LABEL})
    discards_data = True
    reference = "keras.losses.SparseCategoricalCrossentropy"

    def applies(self, diagnosis, setup):
        if not self.answers(diagnosis):
            return False
        if setup.sample.unfilterable:
            return Refusal(setup.sample.unfilterable)
        classes = _classes(setup)
        if classes is None:
            return Refusal("the targets are no class indices of a single output layer")
        kept = keep(_labels_kept(setup, classes), setup.sample.inputs, setup.sample.targets)
        return bool(kept.any()) or Refusal("no label is a class of the output layer")

    def space(self, hp, diagnosis, setup):
        classes = _classes(setup)
        assert classes is not None, "space is asked only where the strategy applies"
        labels = _labels_kept(setup, classes)
        params = {"classes": classes, "first_label": labels.first_label}
        if setup.sample.whole is None:
            return {**params, "rows": None, "of": None}
        kept = keep(labels, *setup.sample.whole)
        return {**params, "rows": np.flatnonzero(~kept).tolist(), "of": len(kept)}

    def apply(self, setup, *, classes, first_label, rows, of):
        # Which rows is decided anew on the data at hand; the numbers are for whoever reads the fix.
        return setup.with_rows(classes=classes, first_label=first_label)

    def explain(self, params):
        if params["first_label"]:
            return f"Count the class labels from 0 instead of {params['first_label']}, as the output layer does."
        which = f"label outside 0 to {params['classes'] - 1}"
        if not params["rows"]:
            return f"Leave out every row with a {which}."
        return f"Leave out {len(params['rows'])} of {params['of']} rows, those with a {which}."

    def snippet(self, params):
        if params["first_label"]:
            return f"y = y - {params['first_label']}"
        return f"keep = (y >= 0) & (y < {params['classes']})\nX, y = X[keep], y[keep]"


def _classes(setup) -> int | None:
    """Return the number of units of the output layer, for which labels are class indices."""
    return class_count(setup.model, setup.user_loss) if len(setup.sample.targets) == 1 else None


def _labels_kept(setup, classes: int) -> RowFilter:
    """Return the shift under which all labels fit, or else the filter for those that do.

    Of a stream only some labels are known: there it takes every label from 1 to classes to tell that none is 0.
    """
    whole = setup.sample.whole
    seen = np.unique((setup.sample.targets if whole is None else whole[1])[0])
    one_based = seen[0] >= 1 and seen[-1] == classes and (whole is not None or len(seen) == classes)
    return RowFilter(classes=classes, first_label=int(one_based))
