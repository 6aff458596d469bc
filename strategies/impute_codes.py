"""Fill what stands for a missing value in the inputs with a usual value of its feature."""

from nanfix.changes.scaling import Scaling
from nanfix.explain.codes import each_code, fillings, in_words
from nanfix.records.cause import Cause
from nanfix.remedies.strategy import Strategy, Tier


class ImputeCodes(Strategy):
    """Replace a number that stands for a missing value, such as -999 or 1e20, by the median of the
    others in its feature, inside the model; NaN and inf too.

    Such a number stands several times in its feature, and is over ten times as great as all others
    there, or is what a missing date or NaN becomes as an integer. Other features keep it. Features
    are the last axis: columns of a table. The imputation is part of the model, which goes on taking
    raw inputs. Does not help where a code is no farther away than measured values, nor where it
    says more than the other features do. In front of a `call` of the model's own the imputation
    stays with the model object; a saved model does not hold it, so the patch writes it into that
    `call`.

    Reference: Little & Rubin (2019), Statistical Analysis with Missing Data, section 4.2;
    sklearn.impute.SimpleImputer and its `missing_values`.
    """

    name = "impute-codes"
    tier = Tier.DATA
    treats = frozenset({Cause.CODED_INPUT, Cause.UNSCALED_INPUT})
    keeps_weights = False
    reference = (
        "Little & Rubin (2019), Statistical Analysis with Missing Data; "
        "sklearn.impute.SimpleImputer"
    )

    def refusal(self, diagnosis, run, plan):
        if plan.of(Scaling).missing_values:
            return "what stands for a missing value is filled already"
        if not any(run.sample.imputable):
            return "nothing can be put in front of the model"
        return None if each_code(run.sample) else "no number stands for a missing value"

    def space(self, hp, diagnosis, run, plan):
        found = fillings(run.sample).items()
        return {
            "missing_values": {name: list(missing) for name, (missing, _) in found},
            "fills": {name: list(usual) for name, (_, usual) in found},
            "codes": list(each_code(run.sample)),
        }

    def apply(self, run, plan, *, missing_values, fills, codes):
        # Which codes they are is for whoever reads the fix.
        return plan.with_change(
            Scaling(
                fills={name: tuple(numbers) for name, numbers in fills.items()},
                missing_values={name: tuple(numbers) for name, numbers in missing_values.items()},
            )
        )

    def explain(self, params):
        return (
            f"Fill {in_words(params['codes'])} in the inputs, which stands for a missing value, "
            "with the median of the other values of the feature, inside the model."
        )

    def snippet(self, params):
        lines = [f"X = np.where(X == {code:.9g}, np.nan, X)" for code in params["codes"]]
        return "\n".join([*lines, "X = np.where(np.isnan(X), np.nanmedian(X, axis=0), X)"])
