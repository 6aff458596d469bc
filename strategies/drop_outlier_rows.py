"""Leave out rows with a value so far from all others that one step on them ruins the weights."""

import numpy as np

from nanfix.changes.maps import Affine
from nanfix.changes.rows import RowFilter
from nanfix.data.row_rules import keep
from nanfix.explain.oddities import DEVIATION, FEW, bands, outlying_share
from nanfix.records.cause import Cause
from nanfix.remedies.strategy import Strategy, Tier


class DropOutlierRows(Strategy):
    """Train, validate and judge on rows with |v - median| <= z * 1.4826 * MAD in every
    input feature and target.

    MAD is the median absolute deviation of the feature (the last axis) in the training
    data, or its mean absolute deviation where most values are the same. Searches z,
    mild to strong. Does not help when the far values are what matters, nor where more
    than one row in twenty has one: then a power transform of the inputs suits better.
    At prediction time such a row gets a prediction like any other.

    Reference: Iglewicz & Hoaglin (1993), How to Detect and Handle Outliers, section 3
    (modified z-scores).
    """

    name = "drop-outlier-rows"
    tier = Tier.DATA
    treats = frozenset({Cause.OUTLIER})
    eases = frozenset({Cause.POISON_BATCH})
    discards_data = True
    reference = "Iglewicz & Hoaglin (1993), How to Detect and Handle Outliers"

    def refusal(self, diagnosis, run, plan):
        if run.sample.unfilterable:
            return run.sample.unfilterable
        if plan.of(RowFilter).bands:
            return "outlying rows are left out already"
        share = outlying_share(run.sample)
        return None if 0 < share <= FEW else f"{share:.1%} of the rows seen lie far out"

    def space(self, hp, diagnosis, run, plan):
        z = hp.Choice("z", [1000.0, 100.0, 10.0])
        usual = bands(run.sample, z)
        params = {
            "z": z,
            "bands": {str(i): {"center": list(b.center), "scale": list(b.scale)} for i, b in usual},
        }
        if run.sample.whole is None:
            return {**params, "rows": None, "of": None}
        kept = keep(RowFilter(bands=usual), *run.sample.whole)
        return {**params, "rows": np.flatnonzero(~kept).tolist(), "of": len(kept)}

    def apply(self, run, plan, *, z, bands, rows, of):
        # Which rows is decided anew on the data at hand; the numbers are for whoever reads the fix.
        pairs = tuple(
            (int(i), Affine(tuple(band["center"]), tuple(band["scale"])))
            for i, band in bands.items()
        )
        return plan.with_change(RowFilter(bands=pairs))

    def explain(self, params):
        which = (
            "every row"
            if params["rows"] is None
            else f"{len(params['rows'])} of {params['of']} rows"
        )
        return (
            f"Leave out {which} with a value over {params['z']:g} robust standard deviations from "
            "the median."
        )

    def snippet(self, params):
        spread = f"{DEVIATION} * np.median(abs(X - np.median(X, axis=0)), axis=0)"
        return (
            f"keep = (abs(X - np.median(X, axis=0)) <= {params['z']:g} * {spread}).all(axis=1)\n"
            "X, y = X[keep], y[keep]"
        )
