"""Numbers that grew until they overflowed: what can have driven them, and what reruns say."""

from collections.abc import Iterator
from dataclasses import replace

from nanfix.explain._signal import Loop
from nanfix.explain.audit import Audit
from nanfix.explain.codes import each_code, in_words
from nanfix.explain.counterfactuals import Counterfactuals, Rerun
from nanfix.explain.evidence import Evidence
from nanfix.explain.growth import LARGE, Growth, is_steep
from nanfix.explain.microscope import Observation
from nanfix.model.activations import activation_name, activation_of, is_bounded
from nanfix.model.optimizers import divides_by_nothing, trained_optimizers, usual_rate
from nanfix.model.run import (
    SMALLEST_EPSILON,
    Run,
    linear_throughout,
    lost_epsilons,
    smallest_epsilon,
    unbounded_recurrences,
)
from nanfix.records.cause import Cause
from nanfix.records.diagnosis import Finding, Phase
from nanfix.records.unsafe_operations import is_far_beyond

# Weights of causes that a rerun has settled; those that have to be taken away together come first.
LEAST_CHANGE = 0.96
CODED = 0.89  # what is no measured number is a fault, whether or not it is the only one
ALL, SURE, CURES, SLOWER_LEARNS, HELPS, SLOWER_CURES = 0.94, 0.93, 0.92, 0.9, 0.86, 0.8
FAR_ABOVE = 2.0  # times a loss
UNUSABLE = 1e-5  # of the rate that is usual for an optimizer
LITTLE = 0.5  # of the loss is left: more is little learned
STEEP = 1e6  # times what it was at the last layer, a gradient at the first has exploded


def scales(audit: Audit, tried: Counterfactuals) -> Iterator[Finding]:
    """Inputs and targets that are not of unit scale; when scaling them alone cures,
    they are the cause.
    """
    if audit.input_scale > LARGE:
        evidence = f"root mean square {audit.input_scale:.3g}, largest value {audit.input_peak:.3g}"
        yield _settled(tried, Cause.UNSCALED_INPUT, evidence, 0.7, CURES, (tried.scaled, HELPS))
    if audit.target_scale is not None and audit.target_scale > LARGE:
        evidence = audit.target_words
        untried = Cause.UNSCALED_TARGET not in tried.alone
        guess = 0.88 if untried and audit.target_scale > 1e3 else 0.65
        yield _settled(tried, Cause.UNSCALED_TARGET, evidence, guess, CURES, (tried.scaled, HELPS))


def inputs_drove_it(evidence: Evidence) -> bool:
    """Say whether it is the scale of the inputs that drives the loss out of its domain: with
    inputs of unit scale the run learns, and not with that operation held inside, or only since that
    leaves nothing of its numbers, or only down to a loss far above what inputs of unit scale begin
    with: then most rows stay at the edge where they are held.
    """
    failing, tried = evidence.failing, evidence.tried
    inputs, held = tried.alone.get(Cause.UNSCALED_INPUT), tried.without
    if evidence.audit.input_scale <= LARGE or inputs is None or not inputs.learned:
        return False
    # A loss gets what the network makes of its inputs; a layer's own formula can be written so that
    # it takes them. In half precision float32 is the smaller change.
    if failing.phase not in (Phase.LOSS, Phase.STEP) or failing.half or tried.relative:
        return False
    vacuous = is_far_beyond(failing.operation, failing.magnitude)
    far = held is not None and held.after > FAR_ABOVE * inputs.before > 0.0
    return vacuous or held is None or not held.learned or far


def _settled(
    tried: Counterfactuals,
    cause: Cause,
    evidence: str,
    guess: float,
    sure: float,
    *others: tuple[Rerun | None, float],
) -> Finding:
    """Return the finding of a cause: as `sure` as the run without it shows where that is cured, or
    as the first of the other runs that is, else a guess.
    """
    alone = tried.alone.get(cause)
    attempts = ((alone, sure), *others)
    for rerun, weight in attempts:
        if rerun is not None and rerun.cured:
            learned = rerun is alone and rerun.learned
            return Finding(cause, weight, f"{evidence}; {rerun}", learned=learned)
    failed = any(rerun is not None for rerun, _ in attempts)
    return Finding(cause, guess, evidence, refuted=failed)


def explosion(failing: Observation, evidence: Evidence) -> Iterator[Finding]:
    """Numbers that grew until they overflowed: everything that can have driven them.

    `failing` is the step of `evidence`, or the next one that fails without the first cause.
    """
    growth, run, tried = evidence.growth, evidence.run, evidence.tried
    if growth.fallen is not None:
        yield from _bottomless(growth.fallen, evidence)
        return
    if tried.needed:
        yield from _needed_together(evidence)
    yield _learning_rate(evidence)
    yield from constants(evidence)
    yield from _codes(evidence)
    for cause in (Cause.STALE_MOMENTS, Cause.CODED_TARGET, Cause.OUTLIER):
        rerun = tried.alone.get(cause)
        if rerun is not None and rerun.cured:
            yield Finding(cause, SURE, str(rerun), learned=rerun.learned)
    if any(is_steep(activation_of(layer)) for _, layer in run.hidden_activations):
        # Its numbers are great because of it, not of the weights.
        yield from _unbounded(run, tried)
    wide, loudest = growth.wide, growth.loudest
    if growth.fed_back is not None:
        yield from _fed_back(growth.fed_back, run, tried)
    elif wide or loudest:
        words, gain = _of_the_weights(growth), max(g for _, g in growth.gains or (("", 0.0),))
        slight = Cause.BAD_INITIALIZATION in tried.alone or (len(wide) < 4 and gain <= 20)
        yield _settled(tried, Cause.BAD_INITIALIZATION, words, 0.6 if slight else 0.9, SURE)
    yield from scales(evidence.audit, tried)
    yield from _unbounded(run, tried)
    if failing.phase is not Phase.UNKNOWN and len(growth.gains) > 3:
        words = f"{len(growth.gains)} layers of weights in a row"
        if growth.gradient_rise > STEEP:
            words += (
                f"; the first gradient grows {growth.gradient_rise:.1e} times from the last of "
                "them to the first"
            )
        steep = growth.gradient_rise > STEEP
        yield Finding(Cause.EXPLODING_GRADIENT, 0.88 if steep else 0.4, words, refuted=not steep)


def _bottomless(fallen: tuple[float, float], evidence: Evidence) -> Iterator[Finding]:
    """A loss without a lower bound. Every rerun stays finite with a lower rate, and the loss falls:
    that is the failure, only later. Numbers far from unit scale are at fault whatever the loss is.
    """
    first, lowest = fallen
    words = f"it fell from {first:.3g} to {lowest:.3g}, below any least value"
    scaled = evidence.tried.alone.get(Cause.UNSCALED_INPUT)
    beside = scaled is not None and scaled.cured
    yield Finding(Cause.NO_LOWER_BOUND, HELPS if beside else ALL, words)
    yield from _codes(evidence)
    for finding in scales(evidence.audit, evidence.tried):
        yield replace(finding, learned=False)  # whatever falls falls then, too


def _fed_back(loop: Loop, run: Run, tried: Counterfactuals) -> Iterator[Finding]:
    """A layer that feeds its growing output back into itself. Smaller weights, with which it grows
    less, show that; a recurrent cell without a bound is looked at by itself.
    """
    if not unbounded_recurrences(run):
        found = _settled(tried, Cause.BAD_INITIALIZATION, str(loop), 0.6, SURE)
        yield replace(found, cause=Cause.UNSTABLE_RECURRENCE)


def _codes(evidence: Evidence) -> Iterator[Finding]:
    """Numbers in the inputs that stand for a missing value."""
    codes = each_code(evidence.run.sample)
    if codes:
        words = f"{in_words(codes)} in several rows, far from all others"
        yield _settled(evidence.tried, Cause.CODED_INPUT, words, CODED, LEAST_CHANGE)


def constants(evidence: Evidence) -> Iterator[Finding]:
    """Constants of the optimizer that lie where they make no sense."""
    growth = evidence.growth
    rate, kept = growth.learning_rate, 1 - growth.decay_of_a_step
    if rate is not None and rate < 0:
        words = f"the learning rate is negative, {rate:.3g}: every step goes uphill"
        yield Finding(Cause.OPTIMIZER_CONSTANT, ALL, words)
    elif not 0 < kept <= 1:
        words = f"weight decay multiplies every weight by {kept:.3g} at each step"
        yield Finding(Cause.OPTIMIZER_CONSTANT, SURE, words)
    for name, decay in evidence.run.decays_out_of_range.items():
        words = f"a {name} of {decay:g} never lets the optimizer forget a gradient"
        yield Finding(Cause.OPTIMIZER_CONSTANT, SURE, words)
    for optimizer in filter(divides_by_nothing, trained_optimizers(evidence.run.model)):
        words = (
            f"an initial accumulator of {optimizer.initial_accumulator_value:g}, by whose root the "
            "first steps divide"
        )
        yield _settled(evidence.tried, Cause.OPTIMIZER_CONSTANT, words, 0.5, LEAST_CHANGE)
    yield from _lost_epsilon(evidence)


def _lost_epsilon(evidence: Evidence) -> Iterator[Finding]:
    """An epsilon that is lost beside what it is added to, so that small gradients make great steps;
    it is the least change where it cures, precision a greater one.
    """
    least = smallest_epsilon(evidence.run)
    for epsilon in lost_epsilons(evidence.run)[:1]:
        words = (
            f"an epsilon of {epsilon:g} is lost here: the square of a gradient below {least:.2g} "
        )
        words += "is 0" if least > SMALLEST_EPSILON else "is next to 0"
        yield _settled(evidence.tried, Cause.OPTIMIZER_CONSTANT, words, 0.5, LEAST_CHANGE)


def _of_the_weights(growth: Growth) -> str:
    if growth.loudest is not None:
        name, size = growth.loudest
        return f"of rows of unit scale the untrained layer {name} makes numbers of {size:.2g}"
    name, gain = max(growth.wide, key=lambda pair: pair[1])
    more = f"{len(growth.wide)} layers in all"
    return f"layer {name} multiplies its input by about {gain:.1f}, {more}"


def _needed_together(evidence: Evidence) -> Iterator[Finding]:
    """Causes of which none may stay: taking away a single one was not enough, but for a rate that
    is far lower.
    """
    audit, growth, tried = evidence.audit, evidence.growth, evidence.tried
    far, loudest = float("inf"), growth.loudest
    weights = _of_the_weights(growth) if growth.wide or loudest else ""
    constant = next((each.evidence for each in constants(evidence)), "")
    # How far it is from unit scale, and what shows it.
    shown = {
        Cause.OUTLIER: (far, ""),
        Cause.CODED_TARGET: (far, ""),
        Cause.CODED_INPUT: (far, ""),
        Cause.BAD_INITIALIZATION: (loudest[1] if loudest else 1.0, weights),
        Cause.UNSCALED_INPUT: (audit.input_scale, f"root mean square {audit.input_scale:.3g}"),
        Cause.UNSCALED_TARGET: (audit.target_scale or 1.0, audit.target_words),
        Cause.OPTIMIZER_CONSTANT: (1.0, constant),
        Cause.LEARNING_RATE: (0.0, f"learning rate {growth.learning_rate or 0.0:.3g}"),
    }
    needed = {cause: shown.get(cause, (1.0, "")) for cause in tried.needed}
    slower = _does_for_several(evidence)
    enough = (
        "instead of so low a rate, these together"
        if slower
        else "one of these alone was not enough"
    )
    ranked = sorted(needed.items(), key=lambda item: -item[1][0])
    for place, (cause, (_, reason)) in enumerate(ranked):
        if place == 0:
            reason = "; ".join(filter(None, [reason, f"{enough}: {tried.joint}"]))
        reason = reason or "this one is needed, too"
        yield Finding(cause, ALL - place * 1e-3, reason)


def _does_for_several(evidence: Evidence) -> bool:
    """Say whether a lower rate does by itself what otherwise takes several changes. One that is far
    below any usual rate, and with which little is learned, does it for no one.
    """
    growth, tried = evidence.growth, evidence.tried
    start = growth.loudest is not None and Cause.BAD_INITIALIZATION in tried.needed
    if tried.rate is None or not tried.rate.learned or start:
        return False
    usual = min(map(usual_rate, trained_optimizers(evidence.run.model)), default=0.0)
    low = (growth.learning_rate or usual) * tried.rate.rate < usual * UNUSABLE
    slow = low and tried.rate.after > LITTLE * tried.rate.before
    return bool(tried.needed) and not slow


def _learning_rate(whole: Evidence) -> Finding:
    """The learning rate is the cause when with a lower one the run learns, and no
    scaling alone cures: a single change is smaller than several together. But a start that
    makes numbers grow by itself stays what is wrong, however slowly the run goes on from there.
    """
    growth, tried = whole.growth, whole.tried
    step, lower = growth.first_step, tried.rate
    rate, first_rate = growth.failing_learning_rate, growth.first_learning_rate
    rate = growth.learning_rate if rate is None else rate
    evidence = "learning rate unknown" if rate is None else f"learning rate {rate:.3g}"
    moved = rate is not None and first_rate is not None and rate != first_rate
    if moved:
        evidence = f"{evidence} at the failing step, {first_rate:.3g} at the first"
    if step is not None and step > 0.1:
        first = f"at {first_rate:.3g} the first step is {step:.2g} times the weights"
        evidence = f"{evidence}; {first}" if moved else first
    if lower is not None and lower.cured:
        learns = LEAST_CHANGE if _does_for_several(whole) else SLOWER_LEARNS
        return Finding(
            Cause.LEARNING_RATE,
            learns if lower.learned else SLOWER_CURES,
            f"{evidence}; {lower}",
            learned=lower.learned,
        )
    guess = 0.5 if lower is not None else 0.85 if step is not None and step > 0.1 else 0.6
    return Finding(
        Cause.LEARNING_RATE,
        guess,
        evidence if lower is None else f"{evidence}; {lower}",
        tried.no_update is False or (lower is not None and not lower.finite),
    )


def _unbounded(run: Run, tried: Counterfactuals) -> Iterator[Finding]:
    recurrent = [activation_name(cell) for cell in unbounded_recurrences(run)]
    if recurrent:
        guess = 0.7 if Cause.UNSTABLE_RECURRENCE in tried.alone else 0.87
        words = f"a recurrent cell uses {recurrent[0]}"
        yield _settled(tried, Cause.UNSTABLE_RECURRENCE, words, guess, SURE)
    hidden = [layer for _, layer in run.hidden_activations]
    steep = [layer for layer in hidden if is_steep(activation_of(layer))]
    unbounded = [layer for layer in hidden if not is_bounded(activation_of(layer))]
    names = {activation_name(layer) for layer in steep or unbounded}
    if names:
        evidence, linear = (
            f"hidden layers use {', '.join(sorted(names))}",
            not recurrent and (steep or linear_throughout(run)),
        )
        guess = 0.55 if linear else 0.4
        found = _settled(tried, Cause.UNSTABLE_ACTIVATION, evidence, guess, SURE)
        # Most networks have such layers: shown where another activation was tried and cured.
        yield found if found.weight >= SURE else replace(found, refuted=True)
