"""Keep the operation that failed inside its domain, where it and its gradient are finite."""

import math

from nanfix.diagnosis import Cause, Phase
from nanfix.kinds.guards import Guard, Guards
from nanfix.strategy import Strategy, Tier

AWAY_FROM_ZERO = "ops.where(ops.abs({x}) < {e}, ops.where({x} < 0, -{e}, {e}), {x})"
# What a person would write in the place of the operation.
GUARDED = {
    "Sqrt": "ops.sqrt(ops.maximum(x, {e}))",
    "Rsqrt": "ops.rsqrt(ops.maximum(x, {e}))",
    "Log": "ops.log(ops.maximum(x, {e}))",
    "Log1p": "ops.log1p(ops.maximum(x, {e} - 1))",
    "RealDiv": "a / " + AWAY_FROM_ZERO.replace("{x}", "b"),
    "DivNoNan": "ops.divide_no_nan(a, ops.where(b == 0, b, " + AWAY_FROM_ZERO.replace("{x}", "b") + "))",
    "Reciprocal": "ops.reciprocal(" + AWAY_FROM_ZERO.replace("{x}", "x") + ")",
    "Exp": "ops.exp(ops.minimum(x, {limit}))",
    "Expm1": "ops.expm1(ops.minimum(x, {limit}))",
    "Cosh": "ops.cosh(ops.clip(x, -{limit}, {limit}))",
    "Sinh": "ops.sinh(ops.clip(x, -{limit}, {limit}))",
    "Softmax": "ops.softmax(ops.maximum(x, -1 / {e}))",
    "LogSoftmax": "ops.log_softmax(ops.maximum(x, -1 / {e}))",
    "Xlogy": "tf.math.xlogy(x, ops.maximum(y, {e}))",
    "Xlog1py": "tf.math.xlog1py(x, ops.maximum(y, {e} - 1))",
    "Lgamma": "tf.math.lgamma(ops.maximum(x, {e}))",
    "Digamma": "tf.math.digamma(ops.maximum(x, {e}))",
    "Erfinv": "ops.erfinv(ops.clip(x, {e} - 1, 1 - {e}))",
    "Atan2": "ops.arctan2(a, " + AWAY_FROM_ZERO.replace("{x}", "b") + ")",
    "FloorMod": "ops.mod(a, " + AWAY_FROM_ZERO.replace("{x}", "b") + ")",
    "Cholesky": "ops.cholesky(x + {e} * ops.eye(x.shape[-1]))",
    "MatrixInverse": "ops.inv(x + {e} * ops.eye(x.shape[-1]))",
    "Pow": "ops.power(ops.maximum(x, {e}), y)",
    "Acos": "ops.arccos(ops.clip(x, {e} - 1, 1 - {e}))",
    "Asin": "ops.arcsin(ops.clip(x, {e} - 1, 1 - {e}))",
    "Acosh": "ops.arccosh(ops.maximum(x, 1 + {e}))",
    "Atanh": "ops.arctanh(ops.clip(x, {e} - 1, 1 - {e}))",
}
EPSILONS = [1e-10, 1e-7, 1e-4]
WITHOUT_EPSILON = {
    "RealDiv": "a / ops.where(b == 0, inf, b)",
    "Exp": "ops.exp(x - ops.max(x, axis=-1, keepdims=True))",
}
CAPPING = ("Exp", "Expm1", "Cosh", "Sinh")  # in a loss a lower limit caps it, which says nothing about the model either
EXP_EPSILONS = [1e-34, 1e-17, 1e-8]  # 1 / epsilon is finite, its square is, its fourth power is
MATRIX_EPSILONS = [1e-6, 1e-4, 1e-2]
SOFTMAX_EPSILONS = [1e-30]
LOG_OF_LOSS = [1e-7]  # Keras' own; a greater one caps the loss lower, which then says nothing about the model


SPECIAL_EPSILONS = {
    **dict.fromkeys(CAPPING, EXP_EPSILONS),
    **dict.fromkeys(("Cholesky", "MatrixInverse"), MATRIX_EPSILONS),
    "RealDiv": [0.0, *EPSILONS],
    **dict.fromkeys(("Softmax", "LogSoftmax"), SOFTMAX_EPSILONS),
}


class GuardUnsafeOperations(Strategy):
    """Compute sqrt(max(x, e)), log(max(x, e)), a / max(|b|, e) and the like instead of the operation that failed.

    Guarded is what the diagnosis names and nothing else: this operation on this line of the user's code or, where no line
    is known, in this layer. Its gradient is that of the guarded expression, 0 beyond the edge; exp(x) is held below 1 / e
    or, where only differences matter as in a softmax, taken of x - max(x) (e = 0), what is divided by exactly 0 may count
    as 0 (e = 0), a softmax over nothing but -inf is even, a matrix to be factored gets e on its diagonal. Searches e, mild
    to strong. The guard stays with the model object; a saved model does not hold it, so the source should be edited as the
    snippet says. Does not help when many values lie outside the domain, where the gradient of 0 teaches nothing, nor when
    the model runs eagerly. Not applied to a loss that has no minimum without the operation failing, as a crossentropy of
    outputs that are no probabilities.

    Reference: Goodfellow, Bengio & Courville (2016), Deep Learning, section 4.1, Overflow and Underflow.
    """

    name = "guard-unsafe-operations"
    tier = Tier.NUMERICS
    treats = frozenset(
        {
            Cause.LOSS_DOMAIN,
            Cause.LAYER_DOMAIN,
            Cause.GRADIENT_SINGULARITY,
            Cause.LOGITS_BY_HAND,
            Cause.EMPTY_REDUCTION,
            Cause.BATCH_STATISTICS,
        }
    )
    reference = "Goodfellow, Bengio & Courville (2016), Deep Learning, section 4.1"

    def refusal(self, diagnosis, run, plan):
        place = diagnosis.place
        if run.model.run_eagerly:
            return "the model runs eagerly, where no operation can be replaced"
        if place.operation not in GUARDED or place.phase not in (Phase.FORWARD, Phase.LOSS, Phase.GRADIENT):
            return "no operation with a guard was seen to fail"
        if diagnosis.cause is Cause.BATCH_STATISTICS and place.source is None:
            return "a stock normalization has an epsilon of its own"
        if _address(place.layer, run) is not None:
            return None
        if place.source is None:
            return "neither a layer nor a line of the user's code computes the operation"
        return None if not _bottomless(diagnosis, run) else "kept inside its domain, the loss has no minimum"

    def space(self, hp, diagnosis, run, plan):
        place = diagnosis.place
        epsilon = hp.Choice("epsilon", _epsilons(diagnosis))
        layer = _address(place.layer, run)
        return {"operation": place.operation, "source": place.source, "layer": layer, "epsilon": epsilon, "code": place.code}

    def apply(self, run, plan, *, operation, source, layer, epsilon, code=None):
        return plan.with_change(Guards((Guard(operation, source, layer, epsilon, code),)))

    def explain(self, params):
        guarded = _written(params).replace("ops.", "")
        return f"Compute {guarded} {_place(params)}; a saved model does not hold this guard, so put it into the source."

    def snippet(self, params):
        return f"{_written(params)}  # {_place(params)}"


def _bottomless(diagnosis, run) -> bool:
    from nanfix.outputs import falls_without_end  # TensorFlow is loaded when it is needed, not with the catalogue

    place = diagnosis.place
    return falls_without_end(Guard(place.operation, place.source, None, _epsilons(diagnosis)[0], place.code), run)


def _epsilons(diagnosis) -> list[float]:
    place = diagnosis.place
    if diagnosis.relative_exponents and place.operation == "Exp":
        return [0.0]
    if place.operation in ("Log", "Log1p") and place.phase is Phase.LOSS:
        return LOG_OF_LOSS
    epsilons = SPECIAL_EPSILONS.get(place.operation, EPSILONS)
    return epsilons[:1] if place.phase is Phase.LOSS and place.operation in CAPPING else epsilons


def _written(params) -> str:
    epsilon = params["epsilon"]
    if epsilon == 0:
        return WITHOUT_EPSILON[params["operation"]]
    return GUARDED[params["operation"]].format(e=f"{epsilon:g}", limit=f"{-math.log(epsilon):.3g}")


def _place(params) -> str:
    return f"at {params['source']}" if params["source"] is not None else f"in layer {params['layer']}"


def _address(name: str | None, run) -> str | None:
    """Return the address of the layer called `name`, if the model has one."""
    return next((address for address, layer in run.members.items() if layer.name == name), None)
