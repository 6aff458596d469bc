"""What is at fault in the data, in the state that training began with and in the learning rate,
whatever training does.
"""

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from nanfix.data.arrays import rows_in
from nanfix.explain._initial_state import nonfinite_start
from nanfix.explain.audit import Audit
from nanfix.explain.evidence import Evidence
from nanfix.explain.inference import of_frozen_layer, statistics_run_away
from nanfix.explain.microscope import Observation
from nanfix.explain.replay import Replay, flat_batch
from nanfix.model.given_weights import finite_class_weights, finite_loss_weights, words
from nanfix.model.normalization import ruined, statistics
from nanfix.model.run import Run, has_schedule
from nanfix.model.user_code import name_of
from nanfix.private.objects import learning_rate_of
from nanfix.recorder.recording import refused_label, refuses_label
from nanfix.records.cause import Cause
from nanfix.records.diagnosis import Finding

HOLES = (Cause.NONFINITE_INPUT, Cause.NONFINITE_TARGET)
TIMES_NAN = (
    "a mask of 0 at {} does not take them out, as 0 times NaN is NaN: where(known, x, 0) does"
)


def at_fault_in_the_data(evidence: Evidence) -> list[Finding]:
    """What the data and the initial state show, whatever the training does."""
    seen, audit, run, failing = evidence.seen, evidence.audit, evidence.run, evidence.failing
    data = [
        *nonfinite_start(run),
        *_nonfinite_rate(run, seen.learning_rate),
        *_nonfinite_constant(run, failing),
        *_ruined_statistics(run),
        *statistics_run_away(failing),
        *of_frozen_layer(failing, run),
        *_no_rows(seen),
        *_nonfinite_loss_weight(run, seen),
        *(
            _with_mask(finding, failing)
            for finding in data_at_fault(
                audit, reached=failing.tainted_input or seen.failing is None
            )
        ),
    ]
    if refuses_label(failing.error) and not audit.label_evidence:
        data.append(
            Finding(Cause.INVALID_LABEL, 0.95, f"TensorFlow says: {refused_label(failing.error)}")
        )
    return data


def _with_mask(finding: Finding, failing: Observation) -> Finding:
    """Return the finding that data hold NaN, with the mask that was to take these out."""
    if failing.multiplied is None or finding.cause not in HOLES:
        return finding
    words = TIMES_NAN.format(failing.multiplied)
    return replace(finding, evidence=f"{finding.evidence}; {words}")


def data_ahead(audit: Audit, run: Run) -> bool:
    """Say whether training would fail of rows that it has not reached: NaN there that no mask keeps
    out. No loss of Keras' own leaves rows out, and whatever the loss, a weight multiplies it.
    """
    stock = isinstance(run.user_loss, str)
    weighed = bool(audit.weight_evidence) and run.has_stock_objective
    return audit.holes_ahead or weighed or (stock and audit.batch_targets_nonfinite)


def _nonfinite_rate(run: Run, rate: float | None) -> Iterator[Finding]:
    """A learning rate of the failing step that is not finite: every weight is NaN after it."""
    if rate is None or math.isfinite(rate):
        return
    schedule = learning_rate_of(run.optimizers[0])
    if has_schedule(run.model):
        who = f"{name_of(schedule)} gives it"
    else:
        who = "a callback sets it" if run.rate_is_set else "the optimizer was made with it"
    words = f"in the step that failed the learning rate is {rate:g}, and {who}"
    yield Finding(Cause.NONFINITE_RATE, 0.98, words)


def _nonfinite_constant(run: Run, failing: Observation) -> Iterator[Finding]:
    """A constant; what a Normalization layer was adapted to has a cause of its own."""
    constant, adapted = failing.place.constant, {layer.name for _, layer in ruined(run.model)}
    if constant is not None and failing.place.layer not in adapted:
        yield Finding(Cause.NONFINITE_CONSTANT, 0.96, constant.words)


def _nonfinite_loss_weight(run: Run, seen: Replay) -> Iterator[Finding]:
    """Weights of outputs count in each step; those of classes where the failing batch has some, as
    sample weights, which Keras makes of them.
    """
    weights = [] if seen.batch is None else flat_batch(seen.batch)[2]
    of_classes = any(not np.isfinite(each).all() for each in weights)
    if finite_loss_weights(run) or (of_classes and finite_class_weights(run)):
        yield Finding(Cause.NONFINITE_LOSS_WEIGHT, 0.97, words(run))


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


def data_at_fault(audit: Audit, *, reached: bool) -> Iterator[Finding]:
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
