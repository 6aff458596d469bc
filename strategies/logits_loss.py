"""Compute a crossentropy from the logits, where a probability that rounds to 0 or 1
cannot break its logarithm.
"""

import numpy as np

from nanfix.changes.layers import LayerAttributes
from nanfix.changes.loss import LogitsLoss as Change
from nanfix.model.crossentropies import (
    COMPUTED_FROM_LOGITS,
    CROSSENTROPIES,
    Crossentropy,
    Targets,
    crossentropy_of,
)
from nanfix.records.cause import Cause
from nanfix.remedies.strategy import Strategy, Tier

TOLERANCE = 1e-3


class LogitsLoss(Strategy):
    """Train on log-sum-exp(z) - z_y instead of -log(softmax(z)_y), and the like for sigmoid.

    The model goes on predicting probabilities. A hand-written loss is replaced only if, on random
    probabilities, it agrees with a Keras crossentropy up to a constant factor; outputs without
    activation under such a loss get the one that makes them probabilities. Does not help a loss
    that is no crossentropy, nor logits that are themselves non-finite.

    Reference: Blanchard, Higham & Higham (2021), Accurately Computing the Log-Sum-Exp and Softmax
    Functions, doi:10.1093/imanum/draa038.
    """

    name = "logits-loss"
    tier = Tier.NUMERICS
    treats = frozenset(
        {
            Cause.LOGITS_BY_HAND,
            Cause.LOSS_DOMAIN,
            Cause.REDUCED_PRECISION,
            Cause.GRADIENT_SINGULARITY,
        }
    )
    reference = "Blanchard, Higham & Higham (2021), doi:10.1093/imanum/draa038"

    def refusal(self, diagnosis, run, plan):
        return (
            None
            if _equivalent(run) is not None
            else "the loss is no crossentropy of a single output"
        )

    def space(self, hp, diagnosis, run, plan):
        found = _equivalent(run)
        assert found is not None, "space is asked only where the strategy applies"
        change, activation = found
        params = {
            "loss": change.name,
            "reduction": change.reduction,
            "factor": change.factor,
            "raw_outputs": change.raw_outputs,
        }
        return {**params, "activation": activation}

    def apply(self, run, plan, *, loss, reduction, factor, raw_outputs, activation):
        if activation is not None:
            address, _ = run.output_activation
            plan = plan.with_change(LayerAttributes.of([address], activation=activation))
        return plan.with_change(Change(loss, reduction, factor, raw_outputs))

    def explain(self, params):
        activation = (
            f" and give the last layer the activation {params['activation']}"
            if params["activation"]
            else ""
        )
        return (
            f"Compute the loss as {params['loss']} from logits (from_logits=True){activation}; "
            "predictions stay as they are."
        )

    def snippet(self, params):
        name = CROSSENTROPIES[params["loss"]].class_name
        loss = f"keras.losses.{name}(from_logits=True, reduction={params['reduction']!r})"
        return f"loss = {loss}  # and no activation on the last layer"


def _equivalent(run) -> tuple[Change, str | None] | None:
    """Return the stock crossentropy that the user's loss is, and the activation that
    its outputs lack, if any.
    """
    if (
        len(run.sample.targets) != 1
        or isinstance(run.user_loss, dict | list | tuple)
        or run.user_loss is None
    ):
        return None
    known, last = run.output_activation is not None, run.output_name
    own = crossentropy_of(run.user_loss)
    for stock in COMPUTED_FROM_LOGITS:
        probabilities = _factor(run, stock, from_logits=False)
        if known and probabilities is not None and last in (stock.activation, "linear"):
            reduction, factor = probabilities
            return Change(
                stock.name, reduction, factor
            ), None if last == stock.activation else stock.activation
        raw = _factor(run, stock, from_logits=True) if own not in COMPUTED_FROM_LOGITS else None
        if raw is not None and last == "linear":
            return Change(stock.name, *raw, raw_outputs=True), None
    return None


def _factor(run, stock: Crossentropy, *, from_logits: bool) -> tuple[str, float] | None:
    """Return (reduction, factor) with which the stock loss equals the user's on random
    outputs, or None.
    """
    from keras import losses

    from nanfix.model.refusals import REFUSED
    from nanfix.private.keras import CompileLoss

    user = CompileLoss(loss=run.user_loss)
    classes = run.sample.targets[0].shape[-1] if run.sample.targets[0].ndim > 1 else 1
    one_of_several = classes > 1 and bool(
        np.allclose(run.sample.targets[0].sum(axis=-1), 1.0, atol=1e-3)
    )
    if stock.targets is Targets.CLASS or (stock.targets is Targets.SHARES and not one_of_several):
        return (
            ("sum_over_batch_size", 1.0)
            if crossentropy_of(run.user_loss) is stock and not from_logits
            else None
        )
    rng = np.random.default_rng(0)
    for reduction in ("sum_over_batch_size", "sum"):
        loss = getattr(losses, stock.class_name)(from_logits=from_logits, reduction=reduction)
        ratios = []
        for rows in (4, 4, 8):
            logits = rng.normal(size=(rows, classes)).astype("float32")
            outputs = logits if from_logits else stock.probabilities(logits)
            truth = stock.draw_targets(rng, rows, classes)
            try:
                ratios.append(float(user(truth, outputs)) / float(loss(truth, outputs)))
            except REFUSED:
                return None  # it takes other targets or other outputs than a crossentropy does
        if (
            np.isfinite(ratios).all()
            and np.ptp(ratios) <= TOLERANCE * abs(ratios[0])
            and ratios[0] > 0
        ):
            return reduction, float(f"{np.mean(ratios):.6g}")
    return None
