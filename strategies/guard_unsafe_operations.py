"""Keep the operation that failed inside its domain, where it and its gradient are finite."""

from nanfix.changes.guards import Guard, Guards, in_float16, refusal_at
from nanfix.records.cause import Cause
from nanfix.records.diagnosis import Phase
from nanfix.records.domains import BASE, Given, domain_of_base
from nanfix.records.unsafe_operations import UNSAFE_OPERATIONS
from nanfix.remedies.strategy import Strategy, Tier


class GuardUnsafeOperations(Strategy):
    """Compute sqrt(max(x, e)), log(max(x, e)), a / max(|b|, e) and the like instead of the
    operation that failed.

    Guarded is what the diagnosis names and nothing else: this operation on this line of the user's
    code, and on those of its function that call the same of other variables, or, where no line is
    known, in this layer. Its gradient is that of the guarded expression,
    0 beyond the edge; exp(x) is held below 1 / e or, where only differences matter as in a softmax,
    taken of x - max(x) (e = 0), what is divided by exactly 0 may count as 0 (e = 0), a softmax over
    nothing but -inf is even, a matrix to be factored gets e on its diagonal. Searches e, mild to
    strong; in a layer or of targets alone what grows without bound beside the edge, as a logarithm,
    is held first at half of the least that it was given, so that none stands far from all others.
    The guard stays with the model object; a saved model does not hold it, so the source should be
    edited as the snippet says. Does not help when many values lie outside the domain, where the
    gradient of 0 teaches nothing, nor when the model runs eagerly. Not applied to a loss that has
    no minimum without the operation failing, as a crossentropy of outputs that are no
    probabilities.

    Reference: Goodfellow, Bengio & Courville (2016), Deep Learning, section 4.1,
    Overflow and Underflow.
    """

    name = "guard-unsafe-operations"
    tier = Tier.NUMERICS
    treats = frozenset(
        {
            Cause.LOSS_DOMAIN,
            Cause.LAYER_DOMAIN,
            Cause.STEP_DOMAIN,
            Cause.GRADIENT_SINGULARITY,
            Cause.LOGITS_BY_HAND,
            Cause.EMPTY_REDUCTION,
            Cause.BATCH_STATISTICS,
            Cause.NONFINITE_RATE,
        }
    )
    instead_of = frozenset({"finite-learning-rate"})
    reference = "Goodfellow, Bengio & Courville (2016), Deep Learning, section 4.1"

    def refusal(self, diagnosis, run, plan):
        place = diagnosis.place
        otherwise = "no operation with a guard was seen to fail"
        refused = refusal_at(place, run, UNSAFE_OPERATIONS, otherwise)
        if refused is not None:
            return refused
        if diagnosis.cause is Cause.BATCH_STATISTICS and place.source is None:
            return "a stock normalization has an epsilon of its own"
        if run.address_of(place.layer) is not None:
            return None
        return (
            None
            if not _bottomless(diagnosis, run)
            else "kept inside its domain, the loss has no minimum"
        )

    def space(self, hp, diagnosis, run, plan):
        place = diagnosis.place
        epsilon = hp.Choice("epsilon", _epsilons(diagnosis))
        layer = run.address_of(place.layer)
        return {
            "operation": place.operation,
            "source": place.source,
            "layer": layer,
            "epsilon": epsilon,
            "code": place.code,
            **({"given": [list(pair) for pair in place.given]} if place.given else {}),
            **({"alike": list(place.alike)} if place.alike else {}),
            **({"half": True} if in_float16(run, layer) else {}),
        }

    def apply(
        self,
        run,
        plan,
        *,
        operation,
        source,
        layer,
        epsilon,
        code=None,
        given=(),
        half=False,
        alike=(),  # guarded with the line, and named for who reads the fix
    ):
        facts = tuple((text, what) for text, what in given)
        guard = Guard(operation, source, layer, epsilon, code, facts, half)
        return plan.with_change(Guards((guard,)))

    def explain(self, params):
        guarded = _written(params).replace("ops.", "")
        return (
            f"Compute {guarded} {_place(params)}; a saved model does not hold this guard, so put "
            "it into the source."
        )

    def snippet(self, params):
        return f"{_written(params)}  # {_place(params)}"


def _bottomless(diagnosis, run) -> bool:
    # TensorFlow is loaded when it is needed, not with the catalogue.
    from nanfix.explain.loss_probe import falls_without_end

    place = diagnosis.place
    return falls_without_end(
        Guard(place.operation, place.source, None, _epsilons(diagnosis)[0], place.code), run
    )


def _epsilons(diagnosis) -> list[float]:
    operation = UNSAFE_OPERATIONS[diagnosis.place.operation]
    if diagnosis.relative_exponents and operation.relative:
        return [0.0]
    of_loss = operation.epsilons_of_loss if diagnosis.place.phase is Phase.LOSS else None
    found = list(of_loss or operation.epsilons)
    if diagnosis.place.edge is None:
        return found
    # 0 stays the first: it holds nothing at an edge.
    edge = [diagnosis.place.edge]
    return [e for e in found if e == 0] + edge + [e for e in found if e not in (0, *edge)]


def _written(params) -> str:
    operation = UNSAFE_OPERATIONS[params["operation"]].as_in(params.get("code"))
    edge = params["epsilon"], params.get("half", False)
    factors = [text for text, what in params.get("given", ()) if what == Given.INFINITE]
    words = [operation.domain.words(text, *edge) for text in factors]
    for _, what in params.get("given", ()):
        domain = domain_of_base(Given(what))
        if domain is not None and domain is not BASE:
            words.append(operation.words.format(domain.words(operation.letter, *edge)))
    return " and ".join(dict.fromkeys(words)) or operation.written(*edge)


def _place(params) -> str:
    if params["source"] is None:
        return f"in layer {params['layer']}"
    return f"at {' and '.join([params['source'], *params.get('alike', ())])}"
