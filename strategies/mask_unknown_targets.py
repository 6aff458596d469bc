"""Leave unknown targets out of the loss, each by itself, and learn what else their rows hold."""

import numpy as np

from nanfix.changes.target_mask import TargetMask
from nanfix.explain.codes import target_codes
from nanfix.model.outputs import class_count
from nanfix.records.cause import Cause
from nanfix.remedies.strategy import Strategy, Tier


class MaskUnknownTargets(Strategy):
    """Take NaN, inf, codes such as 1e20 and labels without a class out of the loss, cell by cell.

    The loss is then the mean over the targets that are known, as with a masked loss; in a row of
    several targets, in a sequence, and with several outputs the others go on teaching. Where a row
    has no other target, drop-nonfinite-rows does the same. Does not help where the loss is computed
    in a training step of the model's own.

    Reference: Little & Rubin (2019), Statistical Analysis with Missing Data, section 3.3
    (available-case analysis).
    """

    name = "mask-unknown-targets"
    tier = Tier.DATA
    treats = frozenset({Cause.NONFINITE_TARGET, Cause.CODED_TARGET, Cause.INVALID_LABEL})
    reference = "Little & Rubin (2019), Statistical Analysis with Missing Data, section 3.3"

    def refusal(self, diagnosis, run, plan):
        if not run.has_stock_objective:
            return "the model computes its loss in its own way"
        mask = _mask(run)
        labels = run.sample.targets[0] if mask.classes is not None else None
        if labels is not None and labels.min() >= 1 and labels.max() == mask.classes:
            return "the labels count from 1"
        known = [mask.known(array) for array in run.sample.targets]
        if all(each.all() for each in known):
            return "every target is known"
        if not all(each.any() for each in known):
            return "of one output no target is known"
        rows = [each.reshape(len(each), -1) for each in known]
        rows = np.concatenate(rows, axis=1) if len(set(map(len, rows))) == 1 else np.ones((1, 1))
        partly = rows.any(axis=1) & ~rows.all(axis=1)
        if not partly.any() and not mask.codes:
            return "the rows with an unknown target have no other"
        return None

    def space(self, hp, diagnosis, run, plan):
        mask = _mask(run)
        known = [mask.known(array) for array in run.sample.targets]
        share = 1.0 - sum(int(each.sum()) for each in known) / sum(each.size for each in known)
        return {
            "nonfinite": mask.nonfinite,
            "codes": list(mask.codes),
            "classes": mask.classes,
            "share": float(f"{share:.2g}"),
        }

    def apply(self, run, plan, *, nonfinite, codes, classes, share):
        # How many they are is for whoever reads the fix.
        return plan.with_change(TargetMask(nonfinite, tuple(codes), classes))

    def explain(self, params):
        what = ["NaN and inf"] if params["nonfinite"] else []
        what += [f"{code:g}" for code in params["codes"]]
        if params["classes"] is not None:
            what.append(f"labels outside 0 to {params['classes'] - 1}")
        of_all = f"{params['share']:.2%} of all"
        return (
            f"Leave the unknown targets ({', '.join(what)}; {of_all}) out of the loss, and learn "
            "from all others."
        )

    def snippet(self, params):
        tests = ["np.isfinite(y)"] if params["nonfinite"] else []
        tests += [f"(y != {code:g})" for code in params["codes"]]
        if params["classes"] is not None:
            tests.append(f"(y >= 0) & (y < {params['classes']})")
        return (
            f"known = {' & '.join(tests)}\n"
            "y = np.where(known, y, 0)\n"
            "model.fit(X, y, sample_weight=known)  # for several columns, a loss that takes a mask"
        )


def _mask(run) -> TargetMask:
    """Return what is unknown in the sample of the targets."""
    targets = run.sample.targets
    floats = [array for array in targets if array.dtype.kind == "f"]
    nonfinite = any(not np.isfinite(array).all() for array in floats)
    classes = class_count(run) if len(targets) == 1 else None
    if classes is not None:
        labels = targets[0]
        classes = None if ((labels >= 0) & (labels < classes)).all() else classes
    return TargetMask(nonfinite, () if classes is not None else target_codes(run.sample), classes)
