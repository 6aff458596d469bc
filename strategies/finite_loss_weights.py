"""Give classes and outputs a finite weight in the loss, where theirs is NaN or inf."""

from nanfix.changes.loss_weights import LossWeights
from nanfix.changes.rows import RowFilter
from nanfix.records.cause import Cause
from nanfix.remedies.strategy import Strategy, Tier


class FiniteLossWeights(Strategy):
    """Put finite numbers in the place of those in `class_weight` and `loss_weights` that are not.

    A class whose weight is not finite gets one with which it counts as much, over all of its rows,
    as the others do on average: n / (k * count) with the count of these very data, where weights
    are made so. An output gets the greatest weight that another has, 1 where none is finite. Does
    not help where the weights are finite and far apart, nor with weights of single rows.

    Reference: King & Zeng (2001), Logistic Regression in Rare Events Data, section 4 (weighting).
    """

    name = "finite-loss-weights"
    tier = Tier.DATA
    treats = frozenset({Cause.NONFINITE_LOSS_WEIGHT})
    reference = "King & Zeng (2001), Logistic Regression in Rare Events Data, section 4"

    def refusal(self, diagnosis, run, plan):
        classes, outputs = _finite(run)
        return None if classes or outputs else "every such weight is finite"

    def space(self, hp, diagnosis, run, plan):
        from nanfix.model.given_weights import weighed_outputs

        classes, outputs = _finite(run)
        names = weighed_outputs(run) if outputs else []
        return {
            "classes": [list(pair) for pair in classes.items()],
            "outputs": [list(pair) for pair in zip(names, outputs, strict=True)],
        }

    def apply(self, run, plan, *, classes, outputs):
        if classes:
            given = tuple((label, weight) for label, weight in classes)
            plan = plan.with_change(RowFilter(class_weights=given))
        if outputs:
            plan = plan.with_change(LossWeights(tuple(weight for _, weight in outputs)))
        return plan

    def explain(self, params):
        changed = [(name, weight) for name, weight in params["outputs"] if weight is not None]
        found = [f" of class {label} by {weight:.4g}" for label, weight in params["classes"]]
        found += [f"{f' of output {name}' if name else ''} by {each:.4g}" for name, each in changed]
        return f"Weigh the loss{' and that'.join(found)}."

    def snippet(self, params):
        changed = [(name, weight) for name, weight in params["outputs"] if weight is not None]
        lines = [f"class_weight[{label}] = {weight:.4g}" for label, weight in params["classes"]]
        lines += [f"loss_weights[{name!r}] = {each:.4g}  # in compile" for name, each in changed]
        return "\n".join(lines)


def _finite(run):
    # TensorFlow is loaded when it is needed, not with the catalogue.
    from nanfix.model.given_weights import finite_class_weights, finite_loss_weights

    return finite_class_weights(run), finite_loss_weights(run)
