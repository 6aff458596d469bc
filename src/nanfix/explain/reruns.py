"""Runs failing steps again with one thing changed, which is what settles a cause."""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import keras
import numpy as np

from nanfix.data.arrays import rows_in, take_rows
from nanfix.data.datasets import batch_size_of, batches_of
from nanfix.data.training_data import TrainingData
from nanfix.explain._batch_changes import input_moments, of_unit_scale, target_moments
from nanfix.explain._interventions import Intervention, removal, together
from nanfix.explain._rerunner import Course, Rerunner
from nanfix.explain._suspects import Suspected, activated, changes_for, jointly, suspect_activations
from nanfix.explain.audit import Audit
from nanfix.explain.counterfactuals import Counterfactuals, Rerun
from nanfix.explain.loss_probe import relative_exponents
from nanfix.explain.microscope import Observation
from nanfix.explain.oddities import usual
from nanfix.explain.replay import Replay
from nanfix.model.activations import activation_name
from nanfix.model.randomness import preserved_randomness
from nanfix.model.run import Run
from nanfix.model.snapshot import Snapshot, restore
from nanfix.private.objects import all_layers
from nanfix.recorder.recording import RecordedStep, Recording
from nanfix.records.cause import Cause
from nanfix.records.unsafe_operations import takes_differences

if TYPE_CHECKING:
    from nanfix.model.training_step import Batch

# Factors of the learning rate, tried in turn: the mildest that cures is closest to what
# the user set.
RATE_FACTORS = (0.1, 0.01, 1e-3, 1e-5, 1e-7)
# Steps. A run that fails later is run again from its newest snapshot: from its beginning, the way
# to the failure takes too long.
MOST_STEPS = 200
# Steps. A rerun lasts twice as long as the run took to fail, and at least so much: a change that
# only puts the failure off for a few steps is no cure.
FEWEST_STEPS_AFTER_FAILURE, FEWEST_STEPS = 10, 30
HALF = ("float16", "bfloat16")
OTHER_BATCHES = 8  # tried on the failing state: enough to tell a poisoned batch from ruined weights


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
            at_the_step = _at_the_step(rerunner, data, run, seen, audit)
            suspected = Suspected(run, audit, wide=wide, out_of_range=out_of_range)
            failing = seen.failing or Observation()
            causes = evident(at_the_step)
            removals = [removal(cause, failing, run) for cause in causes]
            removed = {change.words: change for change in removals if change is not None}
            first = together(list(removed.values())) if removed else None
            holes = audit.batch_inputs_nonfinite or audit.batch_targets_nonfinite
            only_first = holes or Cause.XLA_ONLY in causes
            found = _over_the_run(
                rerunner, data, suspected, first, failing, at_the_step, only_first=only_first
            )
            return replace(found, cut_short=not rerunner.has_time)
        finally:
            restore(recording.newest)


def _at_the_step(
    rerunner: Rerunner, data: TrainingData, run: Run, seen: Replay, audit: Audit
) -> Counterfactuals:
    """Change the weights, the batch, its rows, its precision, its compiler at the failing step."""
    before = seen.before
    assert before is not None
    recording, part = rerunner.recording, data.training_part()
    failing = next(step for step in recording.steps if step.at == seen.onset)
    clean = None
    if audit.rows and audit.rows_of == "the batch" and seen.batch is not None:
        suspicious = set(audit.rows)
        kept = [row for row in range(rows_in(seen.batch) or 0) if row not in suspicious]
        clean = rerunner.stays_finite(before, take_rows(seen.batch, kept)) if kept else None
    return Counterfactuals(
        initial=rerunner.stays_finite(recording.initial, failing.batch),
        others=_others(rerunner, before, _other_batches(recording, part, seen)),
        clean=clean,
        full_precision=_in_full_precision(rerunner, seen, run),
        without_xla=_without_xla(rerunner, seen, run),
        relative=_only_relative(rerunner, seen, run),
    )


def _other_batches(recording: Recording, part: TrainingData, seen: Replay) -> "list[Batch]":
    """Return some batches that did not fail; none where all rows are in a single one."""
    if part.is_arrays and (rows_in(part.x) or 0) <= batch_size_of(part):
        return []
    others = [step.batch for step in recording.steps if step.at != seen.onset][-OTHER_BATCHES:]
    return others + (_more(part, OTHER_BATCHES - len(others)) if part.is_arrays else [])


def _others(rerunner: Rerunner, before: Snapshot, batches: "list[Batch]") -> tuple[int, int]:
    """Return how many of other batches fail on the failing weights, and how many were tried."""
    finite = [rerunner.stays_finite(before, batch) for batch in batches]
    return finite.count(False), len(finite) - finite.count(None)


def _only_relative(rerunner: Rerunner, seen: Replay, run: Run) -> bool:
    if seen.failing is None or not takes_differences(seen.failing.operation):
        return False
    restore(rerunner.recording.newest)
    return relative_exponents(seen.failing.place, run)


def _in_full_precision(rerunner: Rerunner, seen: Replay, run: Run) -> bool | None:
    """Run the failing step with every layer in float32.

    Only where a layer computes in half precision and the variables are float32.
    """
    half = any(getattr(la, "compute_dtype", "") in HALF for la in all_layers(rerunner.model))
    single = all(v.dtype == "float32" for v in rerunner.model.trainable_variables)
    return (
        _at_the_step_without(Cause.REDUCED_PRECISION, rerunner, seen, run)
        if half and single
        else None
    )


def _without_xla(rerunner: Rerunner, seen: Replay, run: Run) -> bool | None:
    """Run the failing step as TensorFlow compiles it without XLA.

    Only where XLA compiles it and, run eagerly, it shows nothing that fails.
    """
    failing = seen.failing
    unseen = failing is not None and failing.operation is None and not failing.error
    if not rerunner.model.jit_compile or not unseen:
        return None
    return _at_the_step_without(Cause.XLA_ONLY, rerunner, seen, run)


def _at_the_step_without(cause: Cause, rerunner: Rerunner, seen: Replay, run: Run) -> bool | None:
    change = removal(cause, seen.failing or Observation(), run)
    if change is None or seen.before is None:
        return None
    with rerunner.on_top_of(change):
        return rerunner.stays_finite(seen.before, seen.batch)


def _over_the_run(
    rerunner: Rerunner,
    data: TrainingData,
    suspected: Suspected,
    first: Intervention | None,
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
    if first is not None:
        with rerunner.on_top_of(first):
            found = replace(found, without=rerunner.rerun(first.words, course))
            if found.without is None and not rerunner.has_time:
                return found
            if found.without is not None and not found.without.finite:
                then = rerunner.failure(course, found.without.steps)
                found = replace(found, then=then)
                return _one_at_a_time(rerunner, course, suspected, found)
        if only_first:
            return found
    return _one_at_a_time(rerunner, course, suspected, found)


def _one_at_a_time(
    rerunner: Rerunner, course: Course, suspected: Suspected, found: Counterfactuals
) -> Counterfactuals:
    """Take away one cause at a time, and where none is enough, several."""
    run, audit = suspected.run, suspected.audit
    changes = changes_for(rerunner, course, suspected)
    found = replace(found, activation=_other_activation(rerunner, course, run))
    found = _with_other_state(rerunner, course, changes, found)
    found = _on_other_numbers(rerunner, course, run, audit, changes, found)
    with rerunner.with_scalable_rates():
        found = replace(
            found, rate=_lower_rate(rerunner, course), no_update=_without_update(rerunner, course)
        )
        return jointly(rerunner, course, changes, found)


def _other_activation(rerunner: Rerunner, course: Course, run: Run) -> Rerun | None:
    """Give layers whose activation is a cause in itself another one."""
    suspects, activation = suspect_activations(run)
    if not suspects or not rerunner.has_time:
        return None
    change = f"with {activation} in the place of {activation_name(suspects[0])}"
    with activated(suspects, activation), rerunner.traced_anew():
        return rerunner.rerun(change, course)


def _with_other_state(
    rerunner: Rerunner, course: Course, changes: dict[Cause, Intervention], found: Counterfactuals
) -> Counterfactuals:
    """Begin with other weights, an optimizer that remembers nothing, or constants in range."""

    def tried(cause: Cause) -> Rerun | None:
        change = changes.get(cause)
        if change is None or not rerunner.has_time:
            return None
        with rerunner.on_top_of(change):
            return rerunner.rerun(change.words, course)

    return replace(
        found,
        weights=tried(Cause.BAD_INITIALIZATION),
        forgotten=tried(Cause.STALE_MOMENTS),
        constants=tried(Cause.OPTIMIZER_CONSTANT),
    )


def _on_other_numbers(
    rerunner: Rerunner,
    course: Course,
    run: Run,
    audit: Audit,
    changes: dict[Cause, Intervention],
    found: Counterfactuals,
) -> Counterfactuals:
    """Draw in what lies far out, and bring inputs and targets to unit scale."""
    sample = usual(run.sample)
    for cause, name in (
        (Cause.OUTLIER, "drawn_in"),
        (Cause.CODED_TARGET, "coded"),
        (Cause.CODED_INPUT, "coded_inputs"),
    ):
        change = changes.get(cause)
        if change is not None:
            rerun = rerunner.rerun(change.words, course, of_batch=change.of_batch)
            found = replace(found, **{name: rerun})
    inputs = input_moments(sample) if sample.measured else None
    targets = target_moments(sample) if audit.continuous_target else None
    if inputs is not None:
        change = "with inputs of unit scale"
        rerun = rerunner.rerun(change, course, of_batch=lambda b: of_unit_scale(b, inputs=inputs))
        found = replace(found, inputs=rerun)
    if targets is not None:
        change = "with targets of unit scale"
        rerun = rerunner.rerun(change, course, of_batch=lambda b: of_unit_scale(b, targets=targets))
        found = replace(found, targets=rerun)
    if inputs is not None and targets is not None:
        change = "with inputs and targets of unit scale"
        rerun = rerunner.rerun(
            change, course, of_batch=lambda b: of_unit_scale(b, inputs=inputs, targets=targets)
        )
        found = replace(found, scaled=rerun)
    return found


def _steps_from_the_beginning(
    data: TrainingData, recording: Recording, count: int
) -> list[RecordedStep]:
    """Return the recorded steps of the run, then more of the user's batches, or the same again."""
    steps = list(recording.steps)
    if recording.newest.total:
        steps.insert(0, RecordedStep(steps[0].at, recording.first_batch))
    part = data.training_part()
    if part.is_arrays:
        steps += [RecordedStep(steps[0].at, batch) for batch in _more(part, count - len(steps))]
    return [steps[index % len(steps)] for index in range(count)]


def _more(part: TrainingData, count: int) -> "list[Batch]":
    """Return batches of the user's arrays, rows drawn with a seed of their own."""
    if count <= 0:
        return []
    rows = rows_in(part.x) or 0
    size = min(batch_size_of(part), rows)
    order = np.random.default_rng(0).permutation(rows)
    return batches_of(part, np.take(order, range(count * size), mode="wrap"), size)


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
