"""From what the replay measured to ranked causes: pure functions of the evidence."""

from collections.abc import Iterator
from dataclasses import replace

import keras
import numpy as np

from nanfix.data.arrays import rows_in
from nanfix.explain._explosions import (
    HELPS,
    LEAST_CHANGE,
    constants,
    explosion,
    inputs_drove_it,
    scales,
)
from nanfix.explain._initial_state import nonfinite_start
from nanfix.explain.audit import Audit
from nanfix.explain.counterfactuals import Counterfactuals
from nanfix.explain.evidence import Evidence
from nanfix.explain.growth import HUGE, is_steep
from nanfix.explain.inference import statistics_run_away
from nanfix.explain.microscope import Observation
from nanfix.explain.replay import Replay
from nanfix.model.activations import activation_name, activation_of
from nanfix.model.crossentropies import PROBABILITIES, loss_name
from nanfix.model.normalization import ruined, statistics
from nanfix.model.run import Run
from nanfix.recorder.recording import refused_label, refuses_label
from nanfix.records.cause import Cause
from nanfix.records.diagnosis import Diagnosis, Finding, Onset, Phase, Place
from nanfix.records.unsafe_operations import UNSAFE_OPERATIONS

AHEAD = 0.55  # weight of a cause that was sure to come, but is not what came
MASKED = 0.45  # of the compiler where an operation is at fault that only XLA does not hide
NEXT = 0.9  # share of its weight that a cause has which the first one hides
SCALES = (Cause.UNSCALED_INPUT, Cause.UNSCALED_TARGET)
NOTHING_SEEN = (
    "run eagerly, the failing step shows no operation turning non-finite, and nothing had grown"
)
NOT_RECORDED = (
    "the batches could not be recorded, as the model draws them by itself: the failing step was "
    "not looked into"
)
NORMALIZATIONS = (
    keras.layers.BatchNormalization,
    keras.layers.LayerNormalization,
    keras.layers.GroupNormalization,
    keras.layers.UnitNormalization,
)


def reason(evidence: Evidence, detected: Onset) -> Diagnosis:
    """Rank the causes that the evidence speaks for; the heaviest finding comes first.

    `detected` stands for the onset where no recorded step fails again.
    """
    seen, audit, growth, tried = evidence.seen, evidence.audit, evidence.growth, evidence.tried
    failing = evidence.failing
    findings = sorted(_findings(evidence), key=lambda finding: -finding.weight)
    place = failing.place
    if evidence.run.nonfinite:
        place = Place(Phase.INITIAL_WEIGHTS, layer=next(iter(evidence.run.nonfinite)))
    elif audit.batch_inputs_nonfinite and failing.tainted_input:
        place = Place(Phase.INPUT, values=audit.input_evidence)
    elif audit.batch_targets_nonfinite and failing.tainted_input:
        place = Place(Phase.TARGET, values=audit.target_evidence)
    return Diagnosis(
        onset=detected if seen.strays else seen.onset or detected,
        findings=_once_each(findings)
        or (Finding(Cause.UNKNOWN, 0.1, "no evidence pointed anywhere"),),
        place=place,
        rows=audit.rows,
        rows_of=audit.rows_of,
        learning_rate=growth.set_rate if evidence.run.rate_is_set else growth.learning_rate,
        gradient_norm=seen.gradient_norm,
        weight_norm=growth.weight_norm,
        first_step=growth.first_step,
        trend="" if seen.strays else growth.trend,
        tried="; ".join(words for words in (seen.elsewhere, str(tried)) if words),
        batch_rows=None if seen.batch is None else rows_in(seen.batch),
        remarks=audit.remarks,
        hopeless=audit.hopeless,
        relative_exponents=tried.relative,
        together=sum(finding.cause in tried.needed for finding in findings[: len(tried.needed)])
        or 1,
    )


def _findings(evidence: Evidence) -> Iterator[Finding]:
    seen, audit, tried = evidence.seen, evidence.audit, evidence.tried
    grown = _has_grown(evidence)
    transient = seen.is_transient and not grown
    if transient or seen.onset is None:
        yield Finding(Cause.TRANSIENT, 0.9, _not_repeated(seen))
    data = _at_fault_in_the_data(evidence)
    if data:
        yield from data
        if tried.without is not None and not tried.without.finite:
            yield from _next(evidence)
        else:  # what a training on the repaired data may fail of next
            for finding in scales(audit, Counterfactuals()):
                yield replace(finding, refuted=tried.without is not None)
        return
    if not grown and _is_by_xla(tried):
        yield _by_xla(seen, tried)
    elif not transient:
        yield from _of_the_step(evidence)
    stock = isinstance(evidence.run.user_loss, str)  # no loss of Keras' own leaves rows out
    if audit.holes_ahead or (stock and (audit.batch_targets_nonfinite or audit.weight_evidence)):
        for finding in _data_at_fault(audit, reached=True):
            yield Finding(
                finding.cause, AHEAD, f"{finding.evidence}, which training had not reached"
            )


def _of_the_step(evidence: Evidence) -> Iterator[Finding]:
    """What the failing step shows: an operation outside its domain, or numbers that have grown."""
    seen, failing, tried = evidence.seen, evidence.failing, evidence.tried
    grown = _has_grown(evidence)
    driven = not grown and inputs_drove_it(evidence)
    if failing.operation is not None and not grown:
        for place, finding in enumerate(_out_of_domain(failing, evidence.run, tried)):
            # The others are the same operation by other names.
            weight = finding.weight * (NEXT if driven else 1.0)
            yield replace(finding, weight=weight, refuted=place > 0)
        if failing.masked:
            yield Finding(Cause.XLA_ONLY, MASKED, "without XLA its kernel hides that slope")
        if tried.then is not None:
            yield from _next(evidence)
    if failing.operation is None and not grown and not failing.error and seen.onset is not None:
        yield Finding(Cause.UNKNOWN, 0.55, NOT_RECORDED if seen.failing is None else NOTHING_SEEN)
    if failing.operation is None and failing.error and not evidence.audit.label_evidence:
        yield Finding(
            Cause.UNKNOWN,
            0.55,
            f"run eagerly, the failing step cannot be looked into ({failing.error})",
        )
    if grown and tried.then is not None and _is_domain(tried.then):
        yield from _next(evidence)
    for finding in explosion(failing, evidence):
        # Without growth an explosion is a guess, while a scale is measured and may be what drove a
        # value out of its domain, and what the least change cures needs no other.
        drove = driven and finding.cause is Cause.UNSCALED_INPUT
        sure = grown or finding.weight >= LEAST_CHANGE or drove
        doubt = 1.0 if sure else 0.8 if finding.cause in SCALES else 0.5
        settled = finding.weight >= HELPS
        yield replace(
            finding,
            weight=finding.weight * doubt,
            refuted=finding.refuted or (not grown and not settled),
        )


def _not_repeated(seen: Replay) -> str:
    """Say how often the failing steps were run again, and with what result."""
    if seen.onset is None:
        times = "once" if seen.replays == 1 else f"{seen.replays} times"
        return f"the recorded steps were replayed {times} and stayed finite"
    failed, tried = seen.again or (0, 0)
    return (
        f"run again {tried} times from the same state on the same batch, the step failed "
        f"{failed} times" + (f", and only in replay {seen.replays}" if seen.replays > 1 else "")
    )


def _is_by_xla(tried: Counterfactuals) -> bool:
    """Say whether the step, and the run where it could be tried, is finite without XLA."""
    return bool(tried.without_xla) and (tried.without is None or tried.without.finite)


def _by_xla(seen: Replay, tried: Counterfactuals) -> Finding:
    failed, times = seen.again or (0, 0)
    evidence = (
        f"compiled by XLA the step fails in {failed} of {times} runs, without XLA it is finite"
    )
    if tried.without is None:
        return Finding(Cause.XLA_ONLY, 0.9, evidence)
    return Finding(Cause.XLA_ONLY, 0.95, f"{evidence}; {tried.without}")


def _steep(layer: keras.Operation | None) -> bool:
    """Say whether a layer has an activation of its own that grows as exp does."""
    own = callable(vars(layer).get("activation")) if layer is not None else False
    return own and is_steep(activation_of(layer))


def _is_domain(failing: Observation) -> bool:
    return failing.operation is not None and failing.magnitude <= HUGE


def _next(evidence: Evidence) -> Iterator[Finding]:
    """What the run fails of once what failed first has been taken away."""
    then = evidence.tried.then or Observation()
    untried = Counterfactuals()
    found = _out_of_domain(then, evidence.run, untried)[:1] if _is_domain(then) else []
    for finding in found or explosion(then, evidence):
        words = f"with that mended it fails again: {finding.evidence}"
        yield replace(finding, weight=finding.weight * NEXT, evidence=words)


def evident(evidence: Evidence) -> tuple[Cause, ...]:
    """Return what is at fault by the look of the failing step alone; nothing for an explosion."""
    failing, tried = evidence.failing, evidence.tried
    data = _at_fault_in_the_data(evidence)
    if data or _has_grown(evidence):
        return tuple(finding.cause for finding in data)
    if failing.operation is None:
        return (Cause.XLA_ONLY,) if tried.without_xla else ()
    return tuple(finding.cause for finding in _out_of_domain(failing, evidence.run, tried)[:1])


def out_of_range(evidence: Evidence) -> bool:
    """Say whether a constant of the optimizer lies where it makes no sense."""
    return any(True for _ in constants(evidence))


def _has_grown(evidence: Evidence) -> bool:
    failing = evidence.failing
    return (
        failing.phase is Phase.DIVERGENCE
        or failing.magnitude > HUGE
        or any(abs(loss) > HUGE**2 for loss in evidence.seen.loss_trend if np.isfinite(loss))
    )


def _at_fault_in_the_data(evidence: Evidence) -> list[Finding]:
    """What the data and the initial state show, whatever the training does."""
    seen, audit, run, failing = evidence.seen, evidence.audit, evidence.run, evidence.failing
    data = [
        *nonfinite_start(run),
        *_ruined_statistics(run),
        *statistics_run_away(failing),
        *_no_rows(seen),
        *_data_at_fault(audit, reached=failing.tainted_input or seen.failing is None),
    ]
    if refuses_label(failing.error) and not audit.label_evidence:
        data.append(
            Finding(Cause.INVALID_LABEL, 0.95, f"TensorFlow says: {refused_label(failing.error)}")
        )
    return data


def _no_rows(seen: Replay) -> Iterator[Finding]:
    if seen.batch is not None and rows_in(seen.batch) == 0:
        yield Finding(Cause.EMPTY_REDUCTION, 0.97, "the batch that failed has no row")


def _ruined_statistics(run: Run) -> Iterator[Finding]:
    for _, layer in ruined(run.model):
        mean, _ = statistics(layer)
        evidence = (
            f"layer {layer.name}: the mean of {np.sum(~np.isfinite(mean))} of its {mean.size} "
            "features is not finite"
        )
        yield Finding(Cause.RUINED_STATISTICS, 0.97, evidence)


def _data_at_fault(audit: Audit, *, reached: bool) -> Iterator[Finding]:
    """Holes and labels without a class; holes only where they have `reached` the
    failing operation.
    """
    if audit.batch_inputs_nonfinite and reached:
        yield Finding(Cause.NONFINITE_INPUT, 0.9, audit.input_evidence)
        if audit.made_on_the_fly:
            yield Finding(
                Cause.POISON_BATCH,
                0.95,
                f"the data are made batch by batch, and in this one {audit.input_evidence}",
            )
    if audit.batch_targets_nonfinite and reached:
        yield Finding(Cause.NONFINITE_TARGET, 0.95, audit.target_evidence)
    if audit.weight_evidence and reached:
        yield Finding(Cause.NONFINITE_WEIGHT, 0.95, audit.weight_evidence)
    if audit.label_evidence:
        yield Finding(Cause.INVALID_LABEL, 0.95, audit.label_evidence)


def _out_of_domain(failing: Observation, run: Run, tried: Counterfactuals) -> list[Finding]:
    """An operation that fails on numbers of ordinary size: what it is and where says why."""
    found = [*_half_precision(failing, tried), *_by_name(failing, run)]
    return sorted(found, key=lambda finding: -finding.weight)


def _by_name(failing: Observation, run: Run) -> Iterator[Finding]:
    values = f"{failing.place.values}"
    last = run.output_name
    if failing.over_nothing:
        yield Finding(Cause.EMPTY_REDUCTION, 0.93, values)
    if failing.phase is Phase.UPDATE:
        yield Finding(Cause.OPTIMIZER_CONSTANT, 0.9, values)
    elif isinstance(failing.layer, NORMALIZATIONS):
        yield Finding(Cause.BATCH_STATISTICS, 0.9, values)
    elif failing.phase is Phase.GRADIENT:
        yield Finding(Cause.GRADIENT_SINGULARITY, 0.9, values)
    elif failing.phase is Phase.LOSS:
        operation = UNSAFE_OPERATIONS.get(failing.operation or "")
        if operation is not None and operation.of_probability and last in PROBABILITIES:
            yield Finding(Cause.LOGITS_BY_HAND, 0.92, values)
        if "crossentropy" in loss_name(run.user_loss) and last not in PROBABILITIES:
            yield Finding(
                Cause.UNSTABLE_ACTIVATION,
                0.92,
                f"{values}: the loss takes probabilities, the last layer gives {last}",
            )
        yield Finding(Cause.LOSS_DOMAIN, 0.9, values)
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


def _once_each(findings: list[Finding]) -> tuple[Finding, ...]:
    """Return the heaviest finding of each cause, of findings that are ranked."""
    first = {finding.cause: finding for finding in reversed(findings)}
    return tuple(finding for finding in findings if first[finding.cause] is finding)
