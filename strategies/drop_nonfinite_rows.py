"""Leave out rows with NaN or inf in an input or a target."""

from dataclasses import replace

import numpy as np

from nanfix.changes.rows import RowFilter
from nanfix.changes.scaling import Scaling
from nanfix.data.row_rules import keep
from nanfix.records.cause import Cause
from nanfix.remedies.strategy import Strategy, Tier


class DropNonfiniteRows(Strategy):
    """Train, validate and judge on the rows whose inputs and targets are all finite.

    So too the rows whose sample weight is not finite. Arrays and frames are filtered with their
    sample weights; the batches of a stream as they are drawn, and one of which nothing is left is
    skipped. Inputs whose holes are filled already count as finite. Does not help when every row has
    a hole, nor at prediction time: a row with a hole still gets a prediction of NaN.

    Reference: Little & Rubin (2019), Statistical Analysis with Missing Data, section 3.2
    (complete-case analysis).
    """

    name = "drop-nonfinite-rows"
    tier = Tier.DATA
    treats = frozenset(
        {Cause.NONFINITE_INPUT, Cause.NONFINITE_TARGET, Cause.NONFINITE_WEIGHT, Cause.POISON_BATCH}
    )
    discards_data = True
    reference = "Little & Rubin (2019), Statistical Analysis with Missing Data, section 3.2"

    def refusal(self, diagnosis, run, plan):
        if run.sample.unfilterable:
            return run.sample.unfilterable
        kept = keep(_finite(plan), run.sample.inputs, run.sample.targets)
        return None if kept.any() else "no row is without a hole"

    def space(self, hp, diagnosis, run, plan):
        finite = _finite(plan)
        where = {"inputs": finite.finite_inputs, "targets": finite.finite_targets}
        if Cause.NONFINITE_WEIGHT in diagnosis.causes:
            where, finite = {**where, "weights": True}, replace(finite, finite_weights=True)
        if run.sample.whole is None:
            return {**where, "rows": None, "of": None}
        kept = keep(finite, *run.sample.whole)
        return {**where, "rows": np.flatnonzero(~kept).tolist(), "of": len(kept)}

    def apply(self, run, plan, *, inputs, targets, rows, of, weights=False):
        # Which rows is decided anew on the data at hand; the numbers are for whoever reads the fix.
        return plan.with_change(
            RowFilter(finite_inputs=inputs, finite_targets=targets, finite_weights=weights)
        )

    def explain(self, params):
        where = " or ".join(name for name in ("inputs", "targets", "weights") if params.get(name))
        if not params["rows"]:
            return f"Leave out every row with NaN or inf in its {where}."
        return (
            f"Leave out {len(params['rows'])} of {params['of']} rows, those with NaN or inf in "
            f"their {where}."
        )

    def snippet(self, params):
        names = [
            variable
            for variable, part in (("X", "inputs"), ("y", "targets"), ("w", "weights"))
            if params.get(part)
        ]
        masks = [f"np.isfinite({name}).reshape(len({name}), -1).all(axis=1)" for name in names]
        return f"keep = {' & '.join(masks)}\nX, y = X[keep], y[keep]"


def _finite(plan) -> RowFilter:
    return RowFilter(finite_inputs=not plan.of(Scaling).fills, finite_targets=True)
