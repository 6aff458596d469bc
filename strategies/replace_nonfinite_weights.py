"""Replace NaN and inf in the weights that a training begins with."""

from nanfix.changes.finite_weights import FiniteWeights
from nanfix.records.cause import Cause
from nanfix.remedies.strategy import Strategy, Tier


class ReplaceNonfiniteWeights(Strategy):
    """Draw the non-finite entries of a weight from N(m, s), with the mean m and the deviation s of
    its finite entries; those stay as they are.

    In a vector every such entry becomes m, or the least finite entry where it was -inf, as is the
    log of the share of a class that never occurred. A weight without a finite entry is drawn as
    its layer draws it. Does not help where the data, and not the weights, hold NaN.

    Reference: Kim (2014), arXiv:1408.5882, section 3.1 (words that the pretrained vectors lack are
    drawn with the variance of those that they have).
    """

    name = "replace-nonfinite-weights"
    tier = Tier.DATA
    treats = frozenset({Cause.NONFINITE_START})
    reference = "Kim (2014), arXiv:1408.5882, section 3.1"

    def refusal(self, diagnosis, run, plan):
        return None if run.nonfinite else "no layer began with non-finite weights"

    def space(self, hp, diagnosis, run, plan):
        return {
            "weights": {
                address: {name: list(start) for name, start in starts.items()}
                for address, starts in run.nonfinite.items()
            }
        }

    def apply(self, run, plan, *, weights):
        starts = {
            address: {name: tuple(start) for name, start in named.items()}
            for address, named in weights.items()
        }
        return plan.with_change(FiniteWeights(starts))

    def explain(self, params):
        names = [f"{name} of {at}" for at, named in params["weights"].items() for name in named]
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        return f"Replace NaN and inf in {', '.join(names[:3])}{more} before training."

    def snippet(self, params):
        return "\n".join(
            f"# {name} of layer {address}: np.where(np.isfinite(w), w, {_written(*start)})"
            for address, named in params["weights"].items()
            for name, start in named.items()
        )


def _written(mean, deviation):
    return f"np.random.default_rng(0).normal({mean}, {deviation}, w.shape)" if deviation else mean
