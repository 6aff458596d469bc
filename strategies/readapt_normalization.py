"""Adapt Normalization layers to the finite values of their data."""

from nanfix.changes.layers import LayerAttributes
from nanfix.records.cause import Cause
from nanfix.remedies.strategy import Strategy, Tier


class ReadaptNormalization(Strategy):
    """Let a Normalization layer compute (x - m) / sqrt(v) with the mean m and variance v of the
    finite training values.

    `adapt` takes one NaN in a feature for its mean: from then on the layer gives NaN for every row.
    Features are those of the layer's own axis; one without a finite value gets 0 and 1. Other
    layers and all weights stay as they are. Does not help against the holes themselves, which
    impute-nonfinite fills beside it, nor where other layers feed the layer.

    Reference: Little & Rubin (2019), Statistical Analysis with Missing Data, section 3.4
    (available-case analysis).
    """

    name = "readapt-normalization"
    tier = Tier.DATA
    treats = frozenset({Cause.RUINED_STATISTICS})
    reference = "Little & Rubin (2019), Statistical Analysis with Missing Data, section 3.4"

    def refusal(self, diagnosis, run, plan):
        return (
            None
            if _fed(run)
            else "no input of the model goes straight into the Normalization layer"
        )

    def space(self, hp, diagnosis, run, plan):
        # TensorFlow is loaded when it is needed, not with the catalogue.
        from nanfix.model.normalization import finite_statistics

        given = dict(zip(run.sample.names, run.sample.inputs, strict=True))
        found = {
            address: finite_statistics(run.members[address], given[name])
            for address, name in _fed(run)
        }
        return {
            "layers": {
                address: {"mean": mean, "variance": variance}
                for address, (mean, variance) in found.items()
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
        count = sum(len(numbers["mean"]) for numbers in params["layers"].values())
        return (
            f"Adapt the Normalization layer to the finite values of its {count} "
            f"feature{'s' if count > 1 else ''}."
        )

    def snippet(self, params):
        return "\n".join(
            (
                f"# layer {address}: keras.layers.Normalization(mean={numbers['mean']}, "
                f"variance={numbers['variance']})"
            )
            for address, numbers in params["layers"].items()
        )


def _fed(run) -> list[tuple[str, str]]:
    """Return address and name of the input of every Normalization with non-finite statistics that
    can be had from an input.
    """
    return [(address, name) for address, name in run.ruined.items() if name is not None]
