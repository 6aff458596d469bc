"""Operations that fail on numbers of ordinary size: what they are and where says why."""

from collections.abc import Iterator

import keras

from nanfix.explain.counterfactuals import Counterfactuals
from nanfix.explain.growth import HUGE, is_steep
from nanfix.explain.microscope import Observation
from nanfix.model.activations import activation_name, activation_of, gives_shares
from nanfix.model.crossentropies import PROBABILITIES, crossentropy_of, loss_name, takes_logits
from nanfix.model.run import Run, lost_epsilons
from nanfix.records.cause import Cause
from nanfix.records.diagnosis import Finding, Phase
from nanfix.records.unsafe_operations import UNSAFE_OPERATIONS

NORMALIZATIONS = (
    keras.layers.BatchNormalization,
    keras.layers.LayerNormalization,
    keras.layers.GroupNormalization,
    keras.layers.UnitNormalization,
)
NO_PROBABILITIES = "the loss takes probabilities, the last layer gives {}"


def is_domain(failing: Observation) -> bool:
    """Say whether a step failed of an operation on numbers of ordinary size."""
    return failing.operation is not None and failing.magnitude <= HUGE


def no_probabilities(run: Run) -> str | None:
    """Return that the loss is a crossentropy of Keras' own, which takes probabilities, and that the
    last layer gives none; None where it does, or that is not known.
    """
    wanted, last = crossentropy_of(run.user_loss), run.output_activation
    if wanted is None or takes_logits(run.user_loss) or run.outputs is None or last is None:
        return None
    fits = gives_shares(activation_of(last[1]))
    return None if fits else NO_PROBABILITIES.format(run.output_name)


def out_of_domain(failing: Observation, run: Run, tried: Counterfactuals) -> list[Finding]:
    """An operation that fails on numbers of ordinary size: what it is and where says why."""
    found = [*_half_precision(failing, tried), *_by_name(failing, run)]
    return sorted(found, key=lambda finding: -finding.weight)


def _by_name(failing: Observation, run: Run) -> Iterator[Finding]:
    values = f"{failing.place.values}"
    last = run.output_name
    if failing.over_nothing:
        yield Finding(Cause.EMPTY_REDUCTION, 0.93, values)
    if failing.phase is Phase.UPDATE:
        # An optimizer of the user's own may have no constant that could be at fault.
        own = failing.place.source is not None and not lost_epsilons(run)
        yield Finding(Cause.STEP_DOMAIN if own else Cause.OPTIMIZER_CONSTANT, 0.9, values)
    elif isinstance(failing.layer, NORMALIZATIONS):
        yield Finding(Cause.BATCH_STATISTICS, 0.9, values)
    elif failing.phase is Phase.GRADIENT:
        yield Finding(Cause.GRADIENT_SINGULARITY, 0.9, values)
    elif failing.phase is Phase.LOSS:
        operation = UNSAFE_OPERATIONS.get(failing.operation or "")
        if operation is not None and operation.of_probability and last in PROBABILITIES:
            yield Finding(Cause.LOGITS_BY_HAND, 0.92, values)
        if "crossentropy" in loss_name(run.user_loss) and last not in PROBABILITIES:
            words = f"{values}: {NO_PROBABILITIES.format(last)}"
            yield Finding(Cause.UNSTABLE_ACTIVATION, 0.92, words)
        yield Finding(Cause.LOSS_DOMAIN, 0.9, values)
    elif failing.phase is Phase.STEP:
        yield Finding(Cause.STEP_DOMAIN, 0.9, values)
    elif failing.phase is Phase.FORWARD:
        steep = _steep(failing.layer)
        cause = Cause.UNSTABLE_ACTIVATION if steep else Cause.LAYER_DOMAIN
        named = (
            f": layer {failing.layer.name} uses {activation_name(failing.layer)}" if steep else ""
        )
        yield Finding(cause, 0.9, values + named)


def _half_precision(failing: Observation, tried: Counterfactuals) -> Iterator[Finding]:
    """Half precision is at fault where the same step is finite in float32, and where nobody could
    try that; of an operation in float32, only where the run stays finite, too.
    """
    evidence = f"{failing.place.values}"
    fails_later = not failing.half and tried.without is not None and not tried.without.finite
    if tried.full_precision and fails_later:
        yield Finding(Cause.REDUCED_PRECISION, 0.3, f"{evidence}; {tried.without}")
    elif tried.full_precision:
        words = f"{evidence}; in float32 the same step is finite"
        yield Finding(Cause.REDUCED_PRECISION, 0.95, words)
    elif failing.half:
        # What has no domain can only fail for its size; in float32 the step fails of another thing.
        sure = tried.full_precision is None or failing.operation not in UNSAFE_OPERATIONS
        words = evidence if tried.full_precision is None else f"{evidence}; in float32 it fails too"
        yield Finding(Cause.REDUCED_PRECISION, 0.95 if sure else 0.3, words)


def _steep(layer: keras.Operation | None) -> bool:
    """Say whether a layer has an activation of its own that grows as exp does."""
    own = callable(vars(layer).get("activation")) if layer is not None else False
    return own and is_steep(activation_of(layer))
