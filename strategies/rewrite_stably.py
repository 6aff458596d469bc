"""Compute a formula in the form that neither overflows nor underflows."""

from nanfix.changes.guards import Guard, Guards, refusal_at
from nanfix.records.cause import Cause
from nanfix.records.diagnosis import OF_A_DOMAIN
from nanfix.records.unsafe_operations import (
    DIFFERENCES,
    LOG_OF_EXPONENTIALS,
    SHARES_OF_EXPONENTIALS,
    UNSAFE_OPERATIONS,
)
from nanfix.remedies.strategy import Strategy, Tier

PARTS = ("Exp", "Expm1", "Cosh", "Sinh", "BesselI0", "BesselI1", "Log", "Log1p")
DETERMINANT = "MatrixDeterminant"  # which overflows in a matrix of a few tens of columns
# What exponentials overflow in, step by step.
PRODUCTS = ("Mul", "MatMul", "BatchMatMulV2", "Sum", "AddV2")
WORDS = {
    LOG_OF_EXPONENTIALS: "the logarithms {} in their stable form, as a logsumexp, slogdet or xlogy",
    SHARES_OF_EXPONENTIALS: "the quotients {} of their exponents, as a softmax, sigmoid or product",
    DIFFERENCES: "the differences {} without cancellation, as a variance or expm1",
}
SNIPPETS = {
    LOG_OF_EXPONENTIALS: "keras.ops.logsumexp(a, axis=...)  # instead of log(sum(exp(a)))",
    SHARES_OF_EXPONENTIALS: (
        "keras.ops.softmax(a, axis=...)  # instead of exp(a) / sum(exp(a))\n"
        "keras.ops.sigmoid(a)  # instead of 1 / (1 + exp(-a))"
    ),
    DIFFERENCES: (
        "keras.ops.var(a, axis=...)  # instead of mean(a**2) - mean(a)**2\n"
        "keras.ops.expm1(a)  # instead of exp(a) - 1"
    ),
}


class RewriteStably(Strategy):
    """Compute log(sum(w * exp(a))) as logsumexp(a + log(w)), equal where both are finite.

    Likewise the logarithm of a mean, the largest, the smallest or the product of exponentials,
    log(cosh(x)), log(sinh(x)), log(I0(x)) of a Bessel function, the logarithm of a
    softmax, sigmoid or softplus, of 1 - sigmoid(x), of 1 - tanh(x)^2, and of differences:
    log(exp(a) - exp(b)), log(exp(a) - 1), log(1 - exp(-a)). That of a determinant is slogdet.
    A product a * log(b) is 0 where a is 0, as in an entropy or divergence by hand. Where the sum of
    exp(a) that others are divided by is 0 or overflows, the quotients are computed of the
    exponents: a softmax by hand, with a mask or without, a sigmoid, swish or tanh by hand, weights
    of kernels, the scaling of a matrix in turn. A tiny number that keeps the sum from being 0 is
    left out. Differences that rounding has spoiled are computed without it: mean(x**2) - mean(x)**2
    as a variance, 1 - exp(x) as -expm1(x), 1 - cos(x) as 2 * sin(x / 2)**2.

    So a mixture of densities, a recursion over log probabilities or (up to seventy steps) over
    probabilities by products of matrices, a softmax by hand whose logarithm is taken, neither
    overflow nor underflow, and every row has a gradient. Nothing is clipped. The formula is read
    off the graph, where the exponential, the logarithm or the product that failed is part of one.
    Does not help where the model runs eagerly, nor where factors may be negative.

    Reference: Blanchard, Higham & Higham (2021), Accurately computing the log-sum-exp and softmax
    functions, doi:10.1093/imanum/draa038.
    """

    name = "rewrite-stably"
    tier = Tier.NUMERICS
    treats = OF_A_DOMAIN | {Cause.GRADIENT_SINGULARITY}
    instead_of = frozenset({"guard-unsafe-operations", "raise-loss-precision"})
    exact = True
    reference = "Blanchard, Higham & Higham (2021), doi:10.1093/imanum/draa038"

    def refusal(self, diagnosis, run, plan):
        place = diagnosis.place
        otherwise = "what failed is no part of a formula that has a stable form"
        parts = UNSAFE_OPERATIONS if place.formula else (*PARTS, *PRODUCTS, DETERMINANT)
        return refusal_at(place, run, parts, otherwise)

    def space(self, hp, diagnosis, run, plan):
        place = diagnosis.place
        layer = run.address_of(place.layer)
        found = {"source": place.source, "layer": layer, "code": place.code}
        return found if place.formula is None else {"operation": place.formula, **found}

    def apply(self, run, plan, *, source, layer, code=None, operation=LOG_OF_EXPONENTIALS):
        guard = Guard(operation, source, layer, 0.0, code)
        return plan.with_change(Guards((guard,)))

    def explain(self, params):
        place = f"at {params['source']}" if params["source"] else f"in layer {params['layer']}"
        what = WORDS[params.get("operation", LOG_OF_EXPONENTIALS)].format(place)
        return f"Compute {what}; a saved model does not hold this form, so put it into the source."

    def snippet(self, params):
        return SNIPPETS[params.get("operation", LOG_OF_EXPONENTIALS)]
