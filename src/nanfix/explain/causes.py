"""From what the replay measured to ranked causes: pure functions of the evidence."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from nanfix.data.arrays import rows_in
from nanfix.explain._domains import is_domain, no_probabilities, out_of_domain
from nanfix.explain._explosions import (
    ALL,
    HELPS,
    LEAST_CHANGE,
    constants,
    explosion,
    inputs_drove_it,
    scales,
)
from nanfix.explain._faulty_data import at_fault_in_the_data, data_ahead, data_at_fault
from nanfix.explain.counterfactuals import Counterfactuals
from nanfix.explain.evidence import Evidence
from nanfix.explain.growth import HUGE
from nanfix.explain.microscope import Observation
from nanfix.explain.replay import Replay
from nanfix.records.cause import Cause
from nanfix.records.data_origin import DataOrigin
from nanfix.records.diagnosis import Diagnosis, Finding, Onset, Phase, Place

AHEAD = 0.55  # weight of a cause that was sure to come, but is not what came
NOT_REACHED = "which training had not reached"
MASKED = 0.45  # of the compiler where an operation is at fault that only XLA does not hide
NEXT = 0.9  # share of its weight that a cause has which the first one hides
SCALES = (Cause.UNSCALED_INPUT, Cause.UNSCALED_TARGET)
NOTHING_SEEN = (
    "run eagerly, the failing step shows no operation turning non-finite, and nothing had grown"
)
OUTGROWN = "numbers that this formula makes on the initial weights already, at any rate"
NO_CHANGE_HELPS = "the steps fail with each change that was tried, and with a learning rate of 0"
NOT_KNOWN = "only its author can say what the callback was to set, and mends it there"
NOT_RECORDED = (
    "the batches could not be recorded, as the model draws them by itself: the failing step was "
    "not looked into"
)


def reason(evidence: Evidence, detected: Onset) -> Diagnosis:
    """Rank the causes that the evidence speaks for; the heaviest finding comes first.

    `detected` stands for the onset where no recorded step fails again.
    """
    seen, audit, growth, tried = evidence.seen, evidence.audit, evidence.growth, evidence.tried
    failing = evidence.failing
    ranked = _once_each(sorted(_findings(evidence), key=lambda finding: -finding.weight))
    if ranked and tried.no_update is False and _names_the_rate_in_vain(ranked):
        ranked = (Finding(Cause.UNKNOWN, ranked[0].weight, NO_CHANGE_HELPS), *ranked)
    later = {finding.cause for finding in _next(evidence)} if tried.then is not None else set()
    ranked = _behind_the_first(ranked, evidence, later)
    together = _together(ranked, tried, later)
    ahead = _ahead(evidence)
    ahead = [each for each in ahead if each.cause not in {f.cause for f in ranked[:together]}]
    findings = _once_each([*ranked[:together], *ahead, *ranked[together:]])
    place = failing.place
    if evidence.run.nonfinite:
        place = Place(Phase.INITIAL_WEIGHTS, layer=next(iter(evidence.run.nonfinite)))
    elif audit.batch_inputs_nonfinite and failing.tainted_input:
        place = Place(Phase.INPUT, values=audit.input_evidence)
    elif audit.batch_targets_nonfinite and failing.tainted_input:
        place = Place(Phase.TARGET, values=audit.target_evidence)
    return Diagnosis(
        onset=detected if seen.strays else seen.onset or detected,
        findings=findings or (Finding(Cause.UNKNOWN, 0.1, "no evidence pointed anywhere"),),
        place=place,
        rows=audit.rows,
        rows_of=audit.rows_of,
        learning_rate=growth.set_rate if evidence.run.rate_is_set else growth.learning_rate,
        earlier_rate=seen.earlier_learning_rate,
        gradient_norm=seen.gradient_norm,
        weight_norm=growth.weight_norm,
        first_step=growth.first_step,
        trend="" if seen.strays else growth.trend,
        tried="; ".join(words for words in (seen.elsewhere, str(tried)) if words),
        batch_rows=None if seen.batch is None else rows_in(seen.batch),
        remarks=audit.remarks,
        looked_at=audit.looked_at,
        hopeless=audit.hopeless or (NOT_KNOWN if evidence.ruined_by is not None else None),
        origins=_origins(place),
        relative_exponents=tried.relative,
        together=min(together + len(ahead), len(findings)) or 1,
        behind=_behind(findings, evidence, later),
        outgrown=growth.outgrown,
        fallen_weights=growth.fallen_weights,
        weights_shares=tried.weights_shares,
    )


def _names_the_rate_in_vain(ranked: Sequence[Finding]) -> bool:
    """Say whether the learning rate is named for want of anything else."""
    return ranked[0].cause is Cause.LEARNING_RATE and all(finding.refuted for finding in ranked)


def _behind_the_first(
    ranked: Sequence[Finding], evidence: Evidence, later: set[Cause]
) -> Sequence[Finding]:
    """Return findings with holes that a run came to with the first fault mended right behind the
    first, and so what it failed of however its numbers were kept small, where the first cures on
    top of it: what cures as well is another way to do the same.
    """
    then = evidence.tried.then or Observation()
    small = _has_grown(evidence) and is_domain(then) and ranked[0].weight >= HELPS
    if not (then.tainted_input or small):
        return ranked
    later = later - {ranked[0].cause}
    return sorted(ranked, key=lambda each: (each is not ranked[0], each.cause not in later))


def _together(ranked: Sequence[Finding], tried: Counterfactuals, later: set[Cause]) -> int:
    """Return how many of the heaviest findings are at fault together: those of which none may stay,
    and behind what failed first what it failed of without that, where a rerun has settled it.
    """
    behind = list(ranked if tried.then is None else ranked[1:])
    count = len(list(itertools.takewhile(lambda each: each.cause in tried.needed, behind)))
    if tried.then is None:
        return count or 1
    settled = [each for each in behind[:1] if each.weight >= HELPS * NEXT and each.cause in later]
    return 1 + (count or len(settled))


def _behind(findings: Sequence[Finding], evidence: Evidence, later: set[Cause]) -> Place | None:
    """Return where a run fails with the first fault mended, of the same cause: a second operation
    outside its domain, from which nothing else that was tried keeps it.
    """
    tried = evidence.tried
    then = tried.then or Observation()
    cured = any(rerun.cured for rerun in tried.reruns)
    first = findings and findings[0].cause
    if cured or not is_domain(then) or later != {first}:
        return None
    return then.place if then.place.spot != evidence.failing.place.spot else None


def _origins(place: Place) -> tuple[DataOrigin, ...]:
    origin = None if place.constant is None else place.constant.origin
    return () if origin is None else (origin,)


def _findings(evidence: Evidence) -> Iterator[Finding]:
    seen, audit, tried = evidence.seen, evidence.audit, evidence.tried
    grown = _has_grown(evidence)
    transient = seen.is_transient and not grown
    if evidence.ruined_by is not None:
        yield Finding(Cause.RUINING_CALLBACK, 0.97, evidence.ruined_by)
    elif transient or seen.onset is None:
        yield Finding(Cause.TRANSIENT, 0.9, _not_repeated(seen))
    data = at_fault_in_the_data(evidence)
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
        yield from _outgrown(evidence)


def _ahead(evidence: Evidence) -> list[Finding]:
    """What is not what the training failed of, but at fault whatever it failed of, and what it was
    sure to fail of next.
    """
    unfit = no_probabilities(evidence.run)
    found = [] if unfit is None else [Finding(Cause.UNSTABLE_ACTIVATION, AHEAD, unfit)]
    if at_fault_in_the_data(evidence) or not data_ahead(evidence.audit, evidence.run):
        return found
    data = [
        replace(finding, weight=AHEAD, evidence=f"{finding.evidence}, {NOT_REACHED}")
        for finding in data_at_fault(evidence.audit, reached=True)
    ]
    return [*data, *found]


def _of_the_step(evidence: Evidence) -> Iterator[Finding]:
    """What the failing step shows: an operation outside its domain, or numbers that have grown."""
    seen, failing, tried = evidence.seen, evidence.failing, evidence.tried
    grown = _has_grown(evidence)
    driven = not grown and inputs_drove_it(evidence)
    unknown = grown or failing.operation is None
    of_domain = [] if unknown else out_of_domain(failing, evidence.run, tried)
    # Its cure, a crossentropy from logits, is none that a rerun tries.
    by_hand = any(finding.cause is Cause.LOGITS_BY_HAND for finding in of_domain[:1])
    if not unknown:
        for place, finding in enumerate(of_domain):
            # The others are the same operation by other names.
            weight = finding.weight * (NEXT if driven else 1.0)
            found = replace(finding, weight=weight, refuted=place > 0)
            yield _of_the_first(found, evidence) if place == 0 else found
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
    if grown and tried.then is not None and is_domain(tried.then):
        yield from _next(evidence)
    for finding in explosion(failing, evidence):
        # Without growth an explosion is a guess, while a scale is measured and may be what drove a
        # value out of its domain, and what the least change cures needs no other.
        drove = driven and finding.cause is Cause.UNSCALED_INPUT
        shown = not by_hand and _is_shown_alone(finding, tried)
        sure = grown or finding.weight >= LEAST_CHANGE or drove or shown
        doubt = 1.0 if sure else 0.8 if finding.cause in SCALES else 0.5
        settled = finding.weight >= HELPS
        yield replace(
            finding,
            weight=finding.weight * doubt,
            refuted=finding.refuted or (not grown and not settled),
        )


def _of_the_first(finding: Finding, evidence: Evidence) -> Finding:
    """Return the operation that failed first with which weights are negative by now, and what came
    of it when it was taken away.
    """
    fallen = " and ".join(map(str, evidence.growth.fallen_weights))
    if fallen:
        finding = replace(finding, evidence=f"{finding.evidence}; {fallen}")
    without = evidence.tried.without
    if without is None:
        return finding
    return replace(finding, learned=without.learned, mended=without.cured)


def _outgrown(evidence: Evidence) -> Iterator[Finding]:
    """A formula of the user's, or of a layer without weights, that makes numbers without bound, as
    a product over many steps does: on the initial weights, at any rate, and whatever else was taken
    away.
    """
    failing, tried, growth = evidence.failing, evidence.tried, evidence.growth
    # Smaller weights that fail as well clear those that the run began with.
    large = (growth.wide or growth.loudest) and Cause.BAD_INITIALIZATION not in tried.alone
    bare = failing.layer is not None and not getattr(failing.layer, "weights", ())
    own = failing.place.source is not None or bare
    if not own or large or growth.fed_back or not _has_grown(evidence):
        return
    if any(rerun.moved for rerun in tried.reruns):
        return
    if tried.initial is False and tried.no_update is False:
        for finding in out_of_domain(failing, evidence.run, tried)[:1]:
            yield replace(finding, weight=ALL, evidence=f"{finding.evidence}, {OUTGROWN}")


def _is_shown_alone(finding: Finding, tried: Counterfactuals) -> bool:
    """Say whether a rerun without a cause, or without several of which it is one, has learned,
    where none without the operation that failed has.
    """
    if tried.then is not None or (tried.without is not None and tried.without.learned):
        return False
    joint = tried.joint is not None and tried.joint.learned and finding.cause in tried.needed
    return finding.learned or joint


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
    words = f"{evidence}; {tried.without}"
    return Finding(Cause.XLA_ONLY, 0.95, words, learned=tried.without.learned)


def _next(evidence: Evidence) -> Iterator[Finding]:
    """What the run fails of once what failed first has been taken away."""
    then = evidence.tried.then or Observation()
    untried = Counterfactuals()
    found = list(data_at_fault(evidence.audit, reached=True)) if then.tainted_input else []
    if not found and is_domain(then):
        found = out_of_domain(then, evidence.run, untried)[:1]
    for finding in found or explosion(then, evidence):
        words = f"with that mended it fails again: {finding.evidence}"
        yield replace(finding, weight=finding.weight * NEXT, evidence=words)


def evident(evidence: Evidence) -> tuple[Cause, ...]:
    """Return what is at fault by the look of the failing step alone; nothing for an explosion."""
    failing, tried = evidence.failing, evidence.tried
    data = at_fault_in_the_data(evidence)
    if data or _has_grown(evidence):
        return tuple(finding.cause for finding in data)
    if failing.operation is None:
        return (Cause.XLA_ONLY,) if tried.without_xla else ()
    return tuple(finding.cause for finding in out_of_domain(failing, evidence.run, tried)[:1])


def out_of_range(evidence: Evidence) -> bool:
    """Say whether a constant of the optimizer lies where it makes no sense."""
    return any(True for _ in constants(evidence))


def _has_grown(evidence: Evidence) -> bool:
    failing = evidence.failing
    return (
        failing.phase is Phase.DIVERGENCE
        or failing.magnitude > HUGE
        or evidence.growth.fallen is not None
        or any(abs(loss) > HUGE**2 for loss in evidence.seen.loss_trend if np.isfinite(loss))
    )


def _once_each(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """Return the heaviest finding of each cause, of findings that are ranked."""
    first = {finding.cause: finding for finding in reversed(findings)}
    return tuple(finding for finding in findings if first[finding.cause] is finding)
