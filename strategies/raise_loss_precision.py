"""Compute the loss in double precision, where rounding is what it fails of."""

from nanfix.changes.loss import Loss
from nanfix.changes.loss_precision import LossPrecision, code_of
from nanfix.records.cause import Cause
from nanfix.records.diagnosis import OF_A_DOMAIN, Phase
from nanfix.remedies.strategy import Strategy, Tier

OVERFLOWING = ("Exp", "Expm1", "Cosh", "Sinh", "Square", "Mul", "Sum", "Pow")


class RaiseLossPrecision(Strategy):
    """Cast what the loss is given to float64, compute it there, and cast what it comes to back.

    float32 has seven digits: of (t + 1)**b - t**b for times t of 1e8 it leaves 0, and the logarithm
    of that is not finite, while float64 has sixteen. The model goes on computing in float32, and
    its weights see the gradient in float32, too. Tried where both loss and gradient are finite in
    float64 of the very outputs of which they are not in float32. Does not help where numbers
    overflow, nor where the model itself has rounded its outputs to 0 or 1.

    Reference: Goldberg (1991), What every computer scientist should know about floating-point
    arithmetic, doi:10.1145/103162.103163.
    """

    name = "raise-loss-precision"
    tier = Tier.NUMERICS
    treats = OF_A_DOMAIN | {Cause.GRADIENT_SINGULARITY}
    instead_of = frozenset({"guard-unsafe-operations"})
    reference = "Goldberg (1991), doi:10.1145/103162.103163"

    def refusal(self, diagnosis, run, plan):
        # TensorFlow is loaded when it is needed, not with the catalogue.
        from nanfix.explain.loss_probe import cancels

        place = diagnosis.place
        if place.phase not in (Phase.LOSS, Phase.GRADIENT) or place.operation in OVERFLOWING:
            return "it is no operation of the loss that rounding takes out of its domain"
        if code_of(run.user_loss) is None or plan.of(Loss) != Loss():
            return "the loss is no single one of your own"
        return None if cancels(run) else "the loss is not finite in float64 either"

    def space(self, hp, diagnosis, run, plan):
        return {"dtype": "float64"}

    def apply(self, run, plan, *, dtype):
        return plan.with_change(LossPrecision(dtype))

    def explain(self, params):
        return f"Compute the loss in {params['dtype']}."

    def snippet(self, params):
        cast = f'keras.ops.cast({{0}}, "{params["dtype"]}")'
        names = ("y_true", "y_pred")
        return "\n".join(f"{name} = {cast.format(name)}  # first in the loss" for name in names)
