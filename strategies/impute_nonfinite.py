"""Fill NaN and inf cells of the inputs with a usual value of their feature, inside the model."""

import numpy as np

from nanfix.changes.scaling import Scaling
from nanfix.explain.codes import as_trained, medians, with_holes
from nanfix.explain.oddities import DEVIATION, USUAL_DEVIATIONS
from nanfix.records.cause import Cause
from nanfix.records.features import feature_table, short
from nanfix.remedies.strategy import Strategy, Tier


class ImputeNonfinite(Strategy):
    """Replace every NaN or inf cell of an input by the median of the finite training
    values of its feature.

    Where all such cells of a feature are -inf, as the logarithm of 0 is, it is the smallest finite
    value, and where all are inf the largest, if that lies within 10 robust standard deviations of
    the median. Features are the last axis: columns of a table, channels of an image or a sequence;
    one that has no finite value at all gets 0. The imputation is part of the model,
    which goes on taking inputs with holes, when it predicts too; in front of a `call` of the
    model's own it stays with the model object, a saved model does not hold it, and the patch
    writes it into that `call`. Does not help against non-finite targets, nor where holes carry
    most of the information.

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
        sample = with_holes(run.sample) if plan.of(Scaling).missing_values else run.sample
        given = sample.named(sample.imputable)
        fills = {name: fills_of(array) for name, array in given.items()}
        usual = {name: list(medians(array)) for name, array in given.items()}
        return {"fills": fills, **({} if fills == usual else {"ends": True})}

    def apply(self, run, plan, *, fills, ends=False):
        return plan.with_change(
            Scaling(fills={name: tuple(numbers) for name, numbers in fills.items()})
        )

    def explain(self, params):
        ends = " (-inf alone with the smallest of them, inf alone with the largest)"
        return (
            "Fill NaN and inf in the inputs with the median of the finite values of their feature"
            f"{ends if params.get('ends') else ''}, inside the model."
        )

    def snippet(self, params):
        finite = "np.where(np.isfinite(X), X, np.nan)"
        return (
            f"X = np.where(np.isfinite(X), X, np.nanmedian({finite}, axis=tuple(range(X.ndim - "
            "1))))"
        )


def fills_of(array: np.ndarray) -> list[float]:
    """Return what each feature of `array`, shape (rows, ..., features), is filled with: a finite
    value of it.
    """
    given = as_trained(array)
    table = feature_table(given)
    given = given.reshape(table.shape)
    median = np.nanmedian(table, axis=0)
    reach = USUAL_DEVIATIONS * DEVIATION * np.nanmedian(np.abs(table - median), axis=0)
    fills = median
    for infinite, end in ((-np.inf, np.nanmin(table, axis=0)), (np.inf, np.nanmax(table, axis=0))):
        alone = (np.isfinite(given) | (given == infinite)).all(axis=0)
        holes = ~np.isfinite(given).all(axis=0)
        fills = np.where(alone & holes & (np.abs(end - median) <= reach), end, fills)
    return list(short(fills))
