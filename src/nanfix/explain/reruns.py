"""Runs failing steps again with one thing changed, which is what settles a cause."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import keras
import numpy as np

from nanfix.changes.optimizer_installer import forget
from nanfix.data.arrays import rows_in, take_rows
from nanfix.data.datasets import batch_size_of, batches_of
from nanfix.data.training_data import TrainingData
from nanfix.explain._batch_changes import drawn_in, input_moments, of_unit_scale, target_moments
from nanfix.explain._rerunner import Course, Rerunner
from nanfix.explain.audit import Audit
from nanfix.explain.counterfactuals import Counterfactuals, Rerun
from nanfix.explain.loss_probe import relative_exponents
from nanfix.explain.oddities import FEW, bands, outlying_share
from nanfix.explain.replay import Replay
from nanfix.model.activations import activation_name, change_activation
from nanfix.model.addresses import walk
from nanfix.model.randomness import preserved_randomness
from nanfix.model.run import Run, linear_throughout, unbounded_recurrences
from nanfix.model.snapshot import restore
from nanfix.model.undo import put
from nanfix.private.objects import DTYPE_POLICY, all_layers
from nanfix.recorder.recording import RecordedStep, Recording
from nanfix.records.unsafe_operations import takes_differences

# Factors of the learning rate, tried in turn: the mildest that cures is closest to what
# the user set.
RATE_FACTORS = (0.1, 0.01, 1e-3, 1e-5, 1e-7)
# Steps. A run that fails later is run again from its newest snapshot: from its beginning, the way
# to the failure takes too long.
MOST_STEPS = 200
# Steps. A rerun lasts twice as long as the run took to fail, and at least so much: a change that
# only puts the failure off for a few steps is no cure.
FEWEST_STEPS_AFTER_FAILURE, FEWEST_STEPS = 10, 30
OTHER_BATCHES = 8  # tried on the failing state: enough to tell a poisoned batch from ruined weights
USUAL_DEVIATIONS = 10.0  # robust standard deviations from the median; values beyond are drawn in


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
) -> Counterfactuals:
    """Run the failing steps again, each time with one thing changed.

    The model is left in the state of the newest snapshot, random states as they were. Nothing is
    tried once `seconds` are over.

    Args:
        wide: whether the initial weights are suspected of being too large.
    """
    nothing_failed = seen.onset is None or seen.before is None or seen.batch is None
    if recording.step_of_keras is None or nothing_failed or audit.hopeless:
        return Counterfactuals()
    with preserved_randomness():
        rerunner = Rerunner(model, recording, time.perf_counter() + seconds)
        try:
            at_the_step = _at_the_step(rerunner, data, run, seen, audit)
            return _over_the_run(rerunner, data, run, audit, wide, at_the_step)
        finally:
            restore(recording.newest)


def _at_the_step(
    rerunner: Rerunner, data: TrainingData, run: Run, seen: Replay, audit: Audit
) -> Counterfactuals:
    """Change the weights, the batch, its rows, its precision at the failing step."""
    before = seen.before
    assert before is not None
    recording, part = rerunner.recording, data.training_part()
    others = [step.batch for step in recording.steps if step.at != seen.onset][-OTHER_BATCHES:]
    others += _more(part, OTHER_BATCHES - len(others)) if part.is_arrays else []
    failing = next(step for step in recording.steps if step.at == seen.onset)
    clean = None
    if audit.rows and audit.rows_of == "the batch" and seen.batch is not None:
        suspicious = set(audit.rows)
        kept = [row for row in range(rows_in(seen.batch) or 0) if row not in suspicious]
        clean = rerunner.stays_finite(before, take_rows(seen.batch, kept)) if kept else None
    return Counterfactuals(
        initial=rerunner.stays_finite(recording.initial, failing.batch),
        others=(sum(not rerunner.stays_finite(before, batch) for batch in others), len(others)),
        clean=clean,
        full_precision=_in_full_precision(rerunner, seen),
        relative=_only_relative(rerunner, seen, run),
    )


def _only_relative(rerunner: Rerunner, seen: Replay, run: Run) -> bool:
    if seen.failing is None or not takes_differences(seen.failing.operation):
        return False
    restore(rerunner.recording.newest)
    return relative_exponents(seen.failing.place, run)


def _in_full_precision(rerunner: Rerunner, seen: Replay) -> bool | None:
    """Run the failing step with every layer in float32.

    Only where half precision is suspected and the variables are float32.
    """
    if (
        seen.before is None
        or seen.failing is None
        or not seen.failing.half
        or any(v.dtype != "float32" for v in rerunner.model.trainable_variables)
    ):
        return None
    with ExitStack() as during:
        for layer in all_layers(rerunner.model):
            put(during, layer, DTYPE_POLICY, keras.DTypePolicy("float32"))
        with rerunner.traced_anew():
            return rerunner.stays_finite(seen.before, seen.batch)


def _over_the_run(
    rerunner: Rerunner,
    data: TrainingData,
    run: Run,
    audit: Audit,
    wide: bool,
    at_the_step: Counterfactuals,
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
    found = replace(
        at_the_step, unchanged=unchanged, activation=_other_activation(rerunner, course, run)
    )
    found = _with_other_state(rerunner, course, run, wide, found)
    found = _on_other_numbers(rerunner, course, run, audit, found)
    with rerunner.with_scalable_rates():
        return replace(
            found, rate=_lower_rate(rerunner, course), no_update=_without_update(rerunner, course)
        )


def _other_activation(rerunner: Rerunner, course: Course, run: Run) -> Rerun | None:
    """Give layers whose activation is a cause in itself another one."""
    suspects, activation = _suspect_activations(run)
    if not suspects or not rerunner.has_time:
        return None
    change = f"with {activation} in the place of {activation_name(suspects[0])}"
    with _activated(suspects, activation), rerunner.traced_anew():
        return rerunner.rerun(change, course)


def _with_other_state(
    rerunner: Rerunner, course: Course, run: Run, wide: bool, found: Counterfactuals
) -> Counterfactuals:
    """Begin with other weights where they are `wide`, and with an optimizer that
    remembers nothing.
    """
    if wide:
        change = "with initial weights of the usual size"
        rerun = rerunner.rerun(change, course, of_state=lambda: _initialize_anew(run))
        found = replace(found, weights=rerun)
    if _remembers(rerunner.recording):
        change = "with a new optimizer"
        rerun = rerunner.rerun(change, course, of_state=lambda: forget(rerunner.model))
        found = replace(found, forgotten=rerun)
    return found


def _on_other_numbers(
    rerunner: Rerunner, course: Course, run: Run, audit: Audit, found: Counterfactuals
) -> Counterfactuals:
    """Draw in what lies far out, and bring inputs and targets to unit scale."""
    sample = run.sample
    outlying = outlying_share(sample)
    if 0.0 < outlying <= FEW:
        usual = bands(sample, USUAL_DEVIATIONS)
        change = f"with the values of {outlying:.1%} of the rows drawn in"
        rerun = rerunner.rerun(change, course, of_batch=lambda batch: drawn_in(batch, usual))
        found = replace(found, drawn_in=rerun)
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


def _remembers(recording: Recording) -> bool:
    """Say whether the optimizer had taken steps before the run began."""
    values = zip(recording.initial.variables, recording.initial.tensors, strict=True)
    return any(
        np.asarray(tensor) > 0 for variable, tensor in values if variable.name == "iteration"
    )


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


def _more(part: TrainingData, count: int) -> list[Any]:
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


def _initialize_anew(run: Run) -> None:
    """Draw every kernel with He's variance, which suits rectifiers and is less than
    twice what others want.
    """
    for position, (_, layer) in enumerate(walk(run.model)):
        if getattr(layer, "kernel", None) is not None:
            layer.kernel.assign(
                keras.initializers.HeNormal(seed=position)(
                    layer.kernel.shape, dtype=layer.kernel.dtype
                )
            )
        if getattr(layer, "recurrent_kernel", None) is not None:
            shape = layer.recurrent_kernel.shape
            layer.recurrent_kernel.assign(
                keras.initializers.Orthogonal(seed=position)(
                    shape, dtype=layer.recurrent_kernel.dtype
                )
            )


def _suspect_activations(run: Run) -> tuple[list[Any], str]:
    """Return the layers whose activation is a cause in itself, and what they should have.

    Unbounded in a recurrence; or none in any hidden layer, nor in the last one where the targets
    lie between 0 and 1.
    """
    recurrent = unbounded_recurrences(run)
    if recurrent:
        return recurrent, "tanh"
    linear = linear_throughout(run)
    shares = all(
        array.size and np.nanmin(array) >= 0 and np.nanmax(array) <= 1
        for array in run.sample.targets
    )
    last = run.activations[-1][1] if run.activations else None
    if linear and shares and activation_name(last) == "linear":
        return [*linear, last], "sigmoid"
    return linear, "sigmoid"


@contextmanager
def _activated(layers: list[Any], activation: str) -> Iterator[None]:
    """Give layers another activation."""
    with ExitStack() as during:
        for layer in layers:
            change_activation(during, layer, keras.activations.get(activation))
        yield
