"""Fill NaN and inf cells of the inputs with the median of their feature, inside the model."""

import numpy as np

from nanfix.changes.scaling import Scaling
from nanfix.records.cause import Cause
from nanfix.records.features import feature_table, short
from nanfix.remedies.strategy import Strategy, Tier


class ImputeNonfinite(Strategy):
    """Replace every NaN or inf cell of an input by the median of the finite training
    values of its feature.

    Features are the last axis: columns of a table, channels of an image or a sequence;
    one that has no finite value at all gets 0. The imputation is part of the model,
    which goes on taking inputs with holes, when it predicts too. Does not help against
    non-finite targets, nor where holes carry most of the information, and is not for a
    model with a `call` of its own, into which nothing can be put.

    Reference: Little & Rubin (2019), Statistical Analysis with Missing Data, section 4.2;
    sklearn.impute.SimpleImputer.
    """

    name = "impute-nonfinite"
    tier = Tier.DATA
    treats = frozenset({Cause.NONFINITE_INPUT, Cause.POISON_BATCH, Cause.VALIDATION_ONLY})
    reference = (
        "Little & Rubin (2019), Statistical Analysis with Missing Data; "
        "sklearn.impute.SimpleImputer"
    )

    def refusal(self, diagnosis, run, plan):
        return (
            None
            if any(run.sample.imputable)
            else "no input can have holes, or nothing can be put into the model"
        )

    def space(self, hp, diagnosis, run, plan):
        given = run.sample.named(run.sample.imputable)
        return {"fills": {name: medians(array) for name, array in given.items()}}

    def apply(self, run, plan, *, fills):
        return plan.with_change(
            Scaling(fills={name: tuple(numbers) for name, numbers in fills.items()})
        )

    def explain(self, params):
        return (
            "Fill NaN and inf in the inputs with the median of the finite values of their feature, "
            "inside the model."
        )

    def snippet(self, params):
        finite = "np.where(np.isfinite(X), X, np.nan)"
        return (
            f"X = np.where(np.isfinite(X), X, np.nanmedian({finite}, axis=tuple(range(X.ndim - "
            "1))))"
        )


def medians(array: np.ndarray) -> list[float]:
    """Return the median of the finite values of each feature of `array`, shape (rows,
    ..., features).
    """
    return list(short(np.nanmedian(feature_table(array), axis=0)))
