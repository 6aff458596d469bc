"""Runs failing steps again with one thing changed, which is what settles a cause."""

import itertools
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace

import keras

from nanfix.data.datasets import drawn_batches
from nanfix.data.training_data import TrainingData
from nanfix.explain._domains import is_domain, out_of_domain
from nanfix.explain._failing_step import at_the_failing_step
from nanfix.explain._faulty_data import data_ahead
from nanfix.explain._interventions import Intervention, removal, removals, together
from nanfix.explain._joint_causes import jointly
from nanfix.explain._rerunner import Course, Rerunner
from nanfix.explain._suspects import Suspected, changes_for, scalings
from nanfix.explain.audit import Audit
from nanfix.explain.counterfactuals import Counterfactuals, Rerun
from nanfix.explain.microscope import Observation
from nanfix.explain.replay import Replay
from nanfix.model.randomness import preserved_randomness
from nanfix.model.run import Run
from nanfix.model.snapshot import restore
from nanfix.recorder.recording import RecordedStep, Recording
from nanfix.records.cause import Cause

# Factors of the learning rate, tried in turn: the mildest that cures is closest to what
# the user set.
RATE_FACTORS = (0.1, 0.01, 1e-3, 1e-5, 1e-7)
# Steps. A run that fails later is run again from its newest snapshot: from its beginning, the way
# to the failure takes too long.
MOST_STEPS = 200
# Steps. A rerun lasts twice as long as the run took to fail, and at least so much: a change that
# only puts the failure off for a few steps is no cure.
FEWEST_STEPS_AFTER_FAILURE, FEWEST_STEPS = 10, 30
BOTH_SCALED = "with inputs and targets of unit scale"


def try_otherwise(
    model: keras.Model,
    data: TrainingData,
    run: Run,
    recording: Recording,
    seen: Replay,
    audit: Audit,
    *,
    wide: bool,
    seconds: float,
    evident: Callable[[Counterfactuals], tuple[Cause, ...]] = lambda _: (),
    out_of_range: bool = False,
) -> Counterfactuals:
    """Run the failing steps again, each time with one thing changed.

    The model is left in the state of the newest snapshot, random states as they were. Nothing is
    tried once `seconds` are over.

    Args:
        wide: whether the initial weights are suspected of being too large.
        evident: says what the failing step itself shows, by what that came to with one thing
            changed; it is taken away before the rest.
        out_of_range: whether a constant of the optimizer is.
    """
    nothing_failed = seen.is_transient or seen.before is None or seen.batch is None
    if recording.step_of_keras is None or nothing_failed or audit.hopeless:
        return Counterfactuals()
    with preserved_randomness():
        rerunner = Rerunner(model, recording, time.perf_counter() + seconds)
        try:
            at_the_step = at_the_failing_step(rerunner, data, run, seen, audit)
            suspected = Suspected(run, audit, wide=wide, out_of_range=out_of_range)
            failing = seen.failing or Observation()
            restore(recording.newest)  # what the steps above have ruined is no evidence
            causes = evident(at_the_step)
            ways = _ways([removals(cause, failing, run) for cause in causes])
            holes = audit.batch_inputs_nonfinite or audit.batch_targets_nonfinite
            only_first = holes or Cause.XLA_ONLY in causes
            # What training had not reached would make every rerun fail.
            sound = [removal(Cause.NONFINITE_INPUT, failing, run)] if data_ahead(audit, run) else []
            with ExitStack() as during:
                for change in filter(None, sound):
                    during.enter_context(rerunner.on_top_of(change))
                found = _over_the_run(
                    rerunner, data, suspected, ways, failing, at_the_step, only_first=only_first
                )
            return replace(found, cut_short=not rerunner.has_time)
        finally:
            restore(recording.newest)


def _over_the_run(
    rerunner: Rerunner,
    data: TrainingData,
    suspected: Suspected,
    ways: list[Intervention],
    failing: Observation,
    at_the_step: Counterfactuals,
    *,
    only_first: bool,
) -> Counterfactuals:
    """Run the steps up to the failure and beyond, with one cause taken away at a time.

    From the beginning of the run; where the run is too long for that, or the batches drawn anew do
    not make it fail, only the learning rate is tried, from the newest snapshot.

    Returns:
        `at_the_step` with what was found.
    """
    recording = rerunner.recording
    until_failure = recording.newest.total + len(recording.steps)
    count = max(2 * until_failure, until_failure + FEWEST_STEPS_AFTER_FAILURE, FEWEST_STEPS)
    course = Course(recording.initial, _steps_from_the_beginning(data, recording, count))
    unchanged = rerunner.rerun("unchanged", course) if until_failure <= MOST_STEPS else None
    if unchanged is None or unchanged.finite:
        course = Course(recording.newest, list(recording.steps))
        unchanged = rerunner.rerun("unchanged", course)
        if unchanged is None or unchanged.finite:
            return at_the_step
        with rerunner.with_scalable_rates():
            return replace(at_the_step, unchanged=unchanged, rate=_lower_rate(rerunner, course))
    found = replace(at_the_step, unchanged=unchanged)
    if ways:
        with ExitStack() as during:
            without = _enter_best(during, rerunner, course, ways)
            found = replace(found, without=without)
            if without is None and not rerunner.has_time:
                return found
            if without is not None and not without.finite:
                found = replace(found, then=rerunner.failure(course, without.steps))
                return _one_at_a_time(rerunner, course, suspected, found)
        if only_first:
            return found
    one_by_one = _one_at_a_time(rerunner, course, suspected, found)
    if ways or one_by_one.then is None:
        return one_by_one
    return _behind_all(rerunner, course, suspected, found, one_by_one)


def _behind_all(
    rerunner: Rerunner,
    course: Course,
    suspected: Suspected,
    found: Counterfactuals,
    one_by_one: Counterfactuals,
) -> Counterfactuals:
    """Take away one cause at a time once more on top of what fails with all of them taken away,
    where that is an operation outside its domain.
    """
    then = one_by_one.then or Observation()
    if not is_domain(then):
        return one_by_one
    causes = [finding.cause for finding in out_of_domain(then, suspected.run, found)[:1]]
    ways = _ways([removals(cause, then, suspected.run) for cause in causes])
    if not ways:
        return one_by_one
    with ExitStack() as during:
        _enter_best(during, rerunner, course, ways)
        again = _one_at_a_time(rerunner, course, suspected, found)
    return replace(again, then=then) if again.alone else one_by_one


def _ways(removals: list[list[Intervention]]) -> list[Intervention]:
    """Return the ways to take all causes away together, of which each may have several."""
    known = [ways for ways in removals if ways]
    combined = itertools.product(*known) if known else []
    return [together(list({way.words: way for way in each}.values())) for each in combined]


def _enter_best(
    during: ExitStack, rerunner: Rerunner, course: Course, ways: list[Intervention]
) -> Rerun | None:
    """Take away what failed first in the way with which the run gets furthest, until `during` is
    closed, and return that run: what is kept near to where it fails may be too great then.
    """
    tried: list[Rerun | None] = []
    for way in ways:
        during.close()
        during.enter_context(rerunner.on_top_of(way))
        tried.append(rerunner.rerun(way.words, course))
        if tried[-1] is None or tried[-1].finite:
            return tried[-1]
    steps = [-1 if rerun is None else rerun.steps for rerun in tried]
    best = max(range(len(ways)), key=lambda number: (steps[number], number))
    if best != len(ways) - 1:
        during.close()
        restore(course.start)  # changes look at the state that they are made in
        during.enter_context(rerunner.on_top_of(ways[best]))
    return tried[best]


def _one_at_a_time(
    rerunner: Rerunner, course: Course, suspected: Suspected, found: Counterfactuals
) -> Counterfactuals:
    """Take away one cause at a time, and where none is enough, several."""
    changes, scaling = changes_for(rerunner, course, suspected), scalings(suspected)
    tried = {
        cause: rerunner.rerun_with(change, course) for cause, change in (changes | scaling).items()
    }
    alone = {cause: rerun for cause, rerun in tried.items() if rerun is not None}
    weights = changes.get(Cause.BAD_INITIALIZATION, Intervention())
    found = replace(found, alone=alone, weights_shares=weights.weights_shares)
    if len(scaling) > 1:
        both = replace(together(list(scaling.values())), words=BOTH_SCALED)
        found = replace(found, scaled=rerunner.rerun_with(both, course))
    with rerunner.with_scalable_rates():
        found = replace(
            found, rate=_lower_rate(rerunner, course), no_update=_without_update(rerunner, course)
        )
        if found.without is not None and found.without.cured:
            return found
        return jointly(rerunner, course, changes, found)


def _steps_from_the_beginning(
    data: TrainingData, recording: Recording, count: int
) -> list[RecordedStep]:
    """Return the recorded steps of the run, then more of the user's batches, or the same again."""
    steps = list(recording.steps)
    if recording.newest.total:
        steps.insert(0, RecordedStep(steps[0].at, recording.first_batch))
    part = data.training_part()
    if part.is_arrays:
        steps += [
            RecordedStep(steps[0].at, batch) for batch in drawn_batches(part, count - len(steps))
        ]
    return [steps[index % len(steps)] for index in range(count)]


def _lower_rate(rerunner: Rerunner, course: Course) -> Rerun | None:
    """Run with lower and lower learning rates until one cures."""
    tried: list[Rerun] = []
    for factor in RATE_FACTORS:
        rerun = rerunner.rerun(f"with {factor:g} times the learning rate", course, rate=factor)
        if rerun is None:
            break
        tried.append(rerun)
        if rerun.learned:
            return rerun
    return next((rerun for rerun in tried if rerun.cured), tried[-1] if tried else None)


def _without_update(rerunner: Rerunner, course: Course) -> bool | None:
    """Say whether the steps stay finite when the weights are left as they are."""
    still = rerunner.rerun("without any update", course, rate=0.0)
    return still.finite if still is not None else None
