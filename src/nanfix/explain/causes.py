"""From what the replay measured to ranked causes: pure functions of the evidence."""

from collections.abc import Iterator
from dataclasses import replace

import keras
import numpy as np

from nanfix.data.arrays import rows_in
from nanfix.explain._initial_state import nonfinite_start
from nanfix.explain.audit import Audit
from nanfix.explain.counterfactuals import Counterfactuals, Rerun
from nanfix.explain.growth import Growth
from nanfix.explain.inference import statistics_run_away
from nanfix.explain.microscope import Observation
from nanfix.explain.replay import Replay
from nanfix.model.activations import activation_name, activation_of, is_bounded
from nanfix.model.crossentropies import PROBABILITIES, loss_name
from nanfix.model.normalization import ruined, statistics
from nanfix.model.run import Run, linear_throughout, unbounded_recurrences
from nanfix.recorder.recording import refused_label, refuses_label
from nanfix.records.cause import Cause
from nanfix.records.diagnosis import Diagnosis, Finding, Onset, Phase, Place
from nanfix.records.unsafe_operations import UNSAFE_OPERATIONS

# Numbers beyond this have grown; an operation that fails on smaller ones left its domain.
HUGE = 1e9
LARGE = 10.0  # inputs and targets of a larger root mean square are not of unit scale
AHEAD = 0.55  # weight of a cause that was sure to come, but is not what came
# Weights of causes that a rerun has settled.
SURE, CURES, SLOWER_LEARNS, HELPS, SLOWER_CURES = 0.93, 0.92, 0.9, 0.86, 0.8
STEEP = 1e6  # times what it was at the last layer, a gradient at the first has exploded
SCALES = (Cause.UNSCALED_INPUT, Cause.UNSCALED_TARGET)
NOTHING_SEEN = (
    "run eagerly, the failing step shows no operation turning non-finite, and nothing had grown"
)
UNSEEN = (
    "the batches could not be recorded, as the model draws them by itself: the failing step was "
    "not looked into"
)
NORMALIZATIONS = (
    keras.layers.BatchNormalization,
    keras.layers.LayerNormalization,
    keras.layers.GroupNormalization,
    keras.layers.UnitNormalization,
)


def reason(
    seen: Replay, audit: Audit, growth: Growth, run: Run, detected: Onset, tried: Counterfactuals
) -> Diagnosis:
    """Rank the causes that the evidence speaks for; the heaviest finding comes first."""
    failing = seen.failing or Observation()
    findings = sorted(
        _findings(seen, failing, audit, growth, run, tried), key=lambda finding: -finding.weight
    )
    place = failing.place
    if run.nonfinite:
        place = Place(Phase.INITIAL_WEIGHTS, layer=next(iter(run.nonfinite)))
    elif audit.batch_inputs_nonfinite and failing.tainted_input:
        place = Place(Phase.INPUT, values=audit.input_evidence)
    elif audit.batch_targets_nonfinite and failing.tainted_input:
        place = Place(Phase.TARGET, values=audit.target_evidence)
    return Diagnosis(
        onset=seen.onset or detected,
        findings=tuple(findings) or (Finding(Cause.UNKNOWN, 0.1, "no evidence pointed anywhere"),),
        place=place,
        rows=audit.rows,
        rows_of=audit.rows_of,
        learning_rate=growth.learning_rate,
        gradient_norm=seen.gradient_norm,
        weight_norm=growth.weight_norm,
        trend=growth.trend,
        tried=str(tried),
        batch_rows=None if seen.batch is None else rows_in(seen.batch),
        remarks=audit.remarks,
        hopeless=audit.hopeless,
        relative_exponents=tried.relative,
    )


def _findings(
    seen: Replay,
    failing: Observation,
    audit: Audit,
    growth: Growth,
    run: Run,
    tried: Counterfactuals,
) -> Iterator[Finding]:
    if seen.onset is None:
        yield Finding(Cause.TRANSIENT, 0.9, "the recorded steps were replayed and stayed finite")
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
    if data:
        yield from data
        # What a training on the repaired data may fail of next.
        yield from _scales(audit, Counterfactuals())
        return
    grown = failing.magnitude > HUGE or any(
        abs(loss) > HUGE**2 for loss in seen.loss_trend if np.isfinite(loss)
    )
    if failing.operation is not None and not grown:
        yield from _out_of_domain(failing, run)
    if failing.operation is None and not grown and not failing.error and seen.onset is not None:
        yield Finding(Cause.UNKNOWN, 0.55, UNSEEN if seen.failing is None else NOTHING_SEEN)
    if failing.operation is None and failing.error and not audit.label_evidence:
        yield Finding(
            Cause.UNKNOWN,
            0.55,
            f"run eagerly, the failing step cannot be looked into ({failing.error})",
        )
    for finding in _explosion(failing, audit, growth, run, tried):
        # Without growth an explosion is a guess, while a scale is measured and may be what drove a
        # value out of its domain.
        doubt = 1.0 if grown else 0.8 if finding.cause in SCALES else 0.5
        yield replace(finding, weight=finding.weight * doubt)
    if audit.holes_ahead:
        for finding in _data_at_fault(audit, reached=True):
            yield Finding(
                finding.cause, AHEAD, f"{finding.evidence}, which training had not reached"
            )


def _no_rows(seen: Replay) -> Iterator[Finding]:
    if seen.batch is not None and rows_in(seen.batch) == 0:
        yield Finding(Cause.EMPTY_REDUCTION, 0.97, "the batch that failed has no row")


def _ruined_statistics(run: Run) -> Iterator[Finding]:
    for _, layer in ruined(run.model):
        mean, _ = statistics(layer)
        told = (
            f"layer {layer.name}: the mean of {np.sum(~np.isfinite(mean))} of its {mean.size} "
            "features is not finite"
        )
        yield Finding(Cause.RUINED_STATISTICS, 0.97, told)


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


def _scales(audit: Audit, tried: Counterfactuals) -> Iterator[Finding]:
    """Inputs and targets that are not of unit scale; when scaling them alone cures,
    they are the cause.
    """
    if audit.input_scale > LARGE:
        told = f"root mean square {audit.input_scale:.3g}, largest value {audit.input_peak:.3g}"
        yield _settled(
            Cause.UNSCALED_INPUT, told, 0.7, (tried.inputs, CURES), (tried.scaled, HELPS)
        )
    if audit.target_scale > LARGE and audit.continuous_target:
        told = f"root mean square {audit.target_scale:.3g}"
        guess = 0.88 if tried.targets is None and audit.target_scale > 1e3 else 0.65
        yield _settled(
            Cause.UNSCALED_TARGET, told, guess, (tried.targets, CURES), (tried.scaled, HELPS)
        )


def _settled(
    cause: Cause, evidence: str, guess: float, *attempts: tuple[Rerun | None, float]
) -> Finding:
    """Return the finding of a cause: as sure as the first attempt that took it away and
    cured, else a guess.
    """
    for rerun, weight in attempts:
        if rerun is not None and rerun.cured:
            return Finding(cause, weight, f"{evidence}; {rerun}")
    return Finding(cause, guess, evidence)


def _out_of_domain(failing: Observation, run: Run) -> Iterator[Finding]:
    """An operation that fails on numbers of ordinary size: what it is and where says why."""
    evidence = f"{failing.place.values}"
    last = activation_name(run.activations[-1][1]) if run.activations else "linear"
    if failing.half:
        yield Finding(Cause.REDUCED_PRECISION, 0.95, evidence)
    if failing.over_nothing:
        yield Finding(Cause.EMPTY_REDUCTION, 0.93, evidence)
    if failing.phase is Phase.UPDATE:
        yield Finding(Cause.OPTIMIZER_CONSTANT, 0.9, evidence)
    elif isinstance(failing.layer, NORMALIZATIONS):
        yield Finding(Cause.BATCH_STATISTICS, 0.9, evidence)
    elif failing.phase is Phase.GRADIENT:
        yield Finding(Cause.GRADIENT_SINGULARITY, 0.9, evidence)
    elif failing.phase is Phase.LOSS:
        operation = UNSAFE_OPERATIONS.get(failing.operation or "")
        if operation is not None and operation.of_probability and last in PROBABILITIES:
            yield Finding(Cause.LOGITS_BY_HAND, 0.92, evidence)
        if "crossentropy" in loss_name(run.user_loss) and last not in PROBABILITIES:
            yield Finding(
                Cause.UNSTABLE_ACTIVATION,
                0.92,
                f"{evidence}: the loss takes probabilities, the last layer gives {last}",
            )
        yield Finding(Cause.LOSS_DOMAIN, 0.9, evidence)
    elif failing.phase is Phase.FORWARD:
        yield Finding(Cause.LAYER_DOMAIN, 0.9, evidence)


def _explosion(
    failing: Observation, audit: Audit, growth: Growth, run: Run, tried: Counterfactuals
) -> Iterator[Finding]:
    """Numbers that grew until they overflowed: everything that can have driven them."""
    yield _learning_rate(growth, tried)
    if not 0 <= growth.decay_of_a_step < 1:
        told = (
            f"weight decay multiplies every weight by {1 - growth.decay_of_a_step:.3g} at each step"
        )
        yield Finding(Cause.OPTIMIZER_CONSTANT, SURE, told)
    for name, decay in run.decays_out_of_range.items():
        yield Finding(
            Cause.OPTIMIZER_CONSTANT,
            SURE,
            f"a {name} of {decay:g} never lets the optimizer forget a gradient",
        )
    for rerun, cause in ((tried.forgotten, Cause.STALE_MOMENTS), (tried.drawn_in, Cause.OUTLIER)):
        if rerun is not None and rerun.cured:
            yield Finding(cause, SURE, str(rerun))
    wide = growth.wide
    if wide:
        name, gain = max(wide, key=lambda pair: pair[1])
        told = f"layer {name} multiplies its input by about {gain:.1f}, {len(wide)} layers in all"
        guess = 0.6 if tried.weights is not None or (len(wide) < 4 and gain <= 20) else 0.9
        yield _settled(Cause.BAD_INITIALIZATION, told, guess, (tried.weights, SURE))
    yield from _scales(audit, tried)
    yield from _unbounded(run, tried.activation)
    if failing.phase is not Phase.UNKNOWN and len(growth.gains) > 3:
        told = f"{len(growth.gains)} layers of weights in a row"
        if growth.gradient_rise > STEEP:
            told += (
                f"; the first gradient grows {growth.gradient_rise:.1e} times from the last of "
                "them to the first"
            )
        yield Finding(Cause.EXPLODING_GRADIENT, 0.88 if growth.gradient_rise > STEEP else 0.4, told)


def _learning_rate(growth: Growth, tried: Counterfactuals) -> Finding:
    """The learning rate is the cause when with a lower one the run learns, and no
    scaling alone cures.
    """
    step, lower = growth.first_step, tried.rate
    told = (
        "learning rate unknown"
        if growth.learning_rate is None
        else f"learning rate {growth.learning_rate:.3g}"
    )
    if step is not None and step > 0.1:
        told = f"at {growth.learning_rate:.3g} the first step is {step:.2g} times the weights"
    if lower is not None and lower.cured:
        return Finding(
            Cause.LEARNING_RATE,
            SLOWER_LEARNS if lower.learned else SLOWER_CURES,
            f"{told}; {lower}",
        )
    guess = 0.5 if lower is not None else 0.85 if step is not None and step > 0.1 else 0.6
    return Finding(
        Cause.LEARNING_RATE,
        guess,
        told if lower is None else f"{told}; {lower}",
        tried.no_update is False,
    )


def _unbounded(run: Run, bounded: Rerun | None) -> Iterator[Finding]:
    recurrent = [activation_name(cell) for cell in unbounded_recurrences(run)]
    if recurrent:
        guess = 0.87 if bounded is None else 0.7
        yield _settled(
            Cause.UNSTABLE_RECURRENCE,
            f"a recurrent cell uses {recurrent[0]}",
            guess,
            (bounded, SURE),
        )
    unbounded = [layer for _, layer in run.activations[:-1] if not is_bounded(activation_of(layer))]
    hidden = {activation_name(layer) for layer in unbounded}
    if hidden:
        told, linear = (
            f"hidden layers use {', '.join(sorted(hidden))}",
            not recurrent and linear_throughout(run),
        )
        yield _settled(
            Cause.UNSTABLE_ACTIVATION,
            told,
            0.55 if linear else 0.4,
            (bounded if linear else None, SURE),
        )
