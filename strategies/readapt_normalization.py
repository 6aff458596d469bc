"""Give normalization layers the mean and variance of the finite values of their data."""

from nanfix.changes.layers import LayerAttributes
from nanfix.records.cause import Cause
from nanfix.records.plurals import counted
from nanfix.remedies.strategy import Strategy, Tier

NAMED = 3  # layers that an explanation names


class ReadaptNormalization(Strategy):
    """Let a normalization layer compute (x - m) / sqrt(v) with the mean m and variance v of the
    finite training values.

    `adapt` takes one NaN in a feature for its mean: from then on the layer gives NaN for every row.
    Features are those of the layer's own axis; one without a finite value gets 0 and 1. A frozen
    BatchNormalization whose variance is negative, as where mean and variance were loaded in each
    other's place, is measured on what goes through it, with all that are frozen. Other layers and
    all weights stay as they are. Does not help against the holes themselves, which
    impute-nonfinite fills beside it, nor where the model cannot be called alone to see what goes
    into a layer.

    Reference: Little & Rubin (2019), Statistical Analysis with Missing Data, section 3.4
    (available-case analysis).
    """

    name = "readapt-normalization"
    tier = Tier.DATA
    treats = frozenset({Cause.RUINED_STATISTICS, Cause.INFERENCE_STATISTICS})
    reference = "Little & Rubin (2019), Statistical Analysis with Missing Data, section 3.4"

    def refusal(self, diagnosis, run, plan):
        if _known(run):
            return None
        if run.ruined:
            return "what goes into the layer is not known"
        return "no layer goes by statistics with which nothing finite can be computed"

    def space(self, hp, diagnosis, run, plan):
        return {
            "layers": {
                address: {"mean": mean, "variance": variance}
                for address, (mean, variance) in _known(run).items()
            }
        }

    def apply(self, run, plan, *, layers):
        for address, numbers in layers.items():
            plan = plan.with_change(
                LayerAttributes.of(
                    [address], statistics=(tuple(numbers["mean"]), tuple(numbers["variance"]))
                )
            )
        return plan

    def explain(self, params):
        layers = list(params["layers"])
        which = ", ".join(layers) if len(layers) <= NAMED else f"{len(layers)} layers"
        count = sum(len(numbers["mean"]) for numbers in params["layers"].values())
        return f"Adapt {which} to the finite values of {counted(count, 'feature')}."

    def snippet(self, params):
        return "\n".join(
            f"# layer {address}: mean={numbers['mean']}, variance={numbers['variance']}"
            for address, numbers in params["layers"].items()
        )


def _known(run):
    """Return mean and variance of the layers of which those of the data are known."""
    return {address: known for address, known in run.ruined.items() if known is not None}
