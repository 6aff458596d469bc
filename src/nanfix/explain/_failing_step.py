"""Runs the failing step again with one thing changed: the weights, the batch, its rows, its
precision, its compiler.
"""

from nanfix.data.arrays import rows_in, take_rows
from nanfix.data.datasets import batch_size_of, drawn_batches
from nanfix.data.training_data import TrainingData
from nanfix.explain._interventions import removal
from nanfix.explain._rerunner import Rerunner
from nanfix.explain.audit import Audit
from nanfix.explain.counterfactuals import Counterfactuals
from nanfix.explain.loss_probe import relative_exponents
from nanfix.explain.microscope import Observation
from nanfix.explain.replay import Replay
from nanfix.model.run import Run
from nanfix.model.snapshot import Snapshot, restore
from nanfix.model.training_step import Batch
from nanfix.private.objects import all_layers
from nanfix.recorder.recording import Recording, Settings
from nanfix.records.cause import Cause
from nanfix.records.unsafe_operations import takes_differences

HALF = ("float16", "bfloat16")
OTHER_BATCHES = 8  # tried on the failing state: enough to tell a poisoned batch from ruined weights


def at_the_failing_step(
    rerunner: Rerunner, data: TrainingData, run: Run, seen: Replay, audit: Audit
) -> Counterfactuals:
    """Return what the failing step comes to with each of these things changed. What callbacks had
    set for it, as a temperature, stays.
    """
    before = seen.before
    assert before is not None
    recording, part = rerunner.recording, data.training_part()
    failing = next(step for step in recording.steps if step.at == seen.onset)
    settings, clean = failing.settings, None
    if audit.rows and audit.rows_of == "the batch" and seen.batch is not None:
        suspicious = set(audit.rows)
        kept = [row for row in range(rows_in(seen.batch) or 0) if row not in suspicious]
        if kept:
            clean = rerunner.stays_finite(before, take_rows(seen.batch, kept), settings)
    return Counterfactuals(
        initial=rerunner.stays_finite(recording.initial, failing.batch, settings),
        others=_others(rerunner, before, _other_batches(recording, part, seen), settings),
        clean=clean,
        full_precision=_in_full_precision(rerunner, seen, run, settings),
        without_xla=_without_xla(rerunner, seen, run, settings),
        relative=_only_relative(rerunner, seen, run),
    )


def _other_batches(recording: Recording, part: TrainingData, seen: Replay) -> "list[Batch]":
    """Return some batches that did not fail; none where all rows are in a single one."""
    if part.is_arrays and (rows_in(part.x) or 0) <= batch_size_of(part):
        return []
    others = [step.batch for step in recording.steps if step.at != seen.onset][-OTHER_BATCHES:]
    return others + (drawn_batches(part, OTHER_BATCHES - len(others)) if part.is_arrays else [])


def _others(
    rerunner: Rerunner, before: Snapshot, batches: "list[Batch]", settings: Settings
) -> tuple[int, int]:
    """Return how many of other batches fail on the failing weights, and how many were tried."""
    finite = [rerunner.stays_finite(before, batch, settings) for batch in batches]
    return finite.count(False), len(finite) - finite.count(None)


def _only_relative(rerunner: Rerunner, seen: Replay, run: Run) -> bool:
    if seen.failing is None or not takes_differences(seen.failing.operation):
        return False
    restore(rerunner.recording.newest)
    return relative_exponents(seen.failing.place, run)


def _in_full_precision(
    rerunner: Rerunner, seen: Replay, run: Run, settings: Settings
) -> bool | None:
    """Run the failing step with every layer in float32.

    Only where a layer computes in half precision and the variables are float32.
    """
    half = any(getattr(la, "compute_dtype", "") in HALF for la in all_layers(rerunner.model))
    single = all(v.dtype == "float32" for v in rerunner.model.trainable_variables)
    if not half or not single:
        return None
    return _without(Cause.REDUCED_PRECISION, rerunner, seen, run, settings)


def _without_xla(rerunner: Rerunner, seen: Replay, run: Run, settings: Settings) -> bool | None:
    """Run the failing step as TensorFlow compiles it without XLA.

    Only where XLA compiles it and, run eagerly, it shows nothing that fails.
    """
    failing = seen.failing
    unseen = failing is not None and failing.operation is None and not failing.error
    if not rerunner.model.jit_compile or not unseen:
        return None
    return _without(Cause.XLA_ONLY, rerunner, seen, run, settings)


def _without(
    cause: Cause, rerunner: Rerunner, seen: Replay, run: Run, settings: Settings
) -> bool | None:
    change = removal(cause, seen.failing or Observation(), run)
    if change is None or seen.before is None:
        return None
    with rerunner.on_top_of(change):
        return rerunner.stays_finite(seen.before, seen.batch, settings)
