"""What a trained model gives in inference mode: whether it is finite and, where it is not, which
operation, layer and rows, and why.
"""

import inspect
import itertools
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from keras import tree

from nanfix.data.arrays import as_keras, rows_in, take_rows, unpacked
from nanfix.data.datasets import batch_size_of, judged_on
from nanfix.data.streams import first_batches
from nanfix.data.training_data import TrainingData
from nanfix.explain._initial_state import nonfinite_start
from nanfix.explain.audit import Audit
from nanfix.explain.microscope import NOT_EAGERLY, Observation, observe
from nanfix.install.sites import callable_alone
from nanfix.model.faults import is_raised_by_nanfix
from nanfix.model.logged_losses import loss_of, named_loss
from nanfix.model.object_state import count_again, counters
from nanfix.model.run import Run
from nanfix.model.running_statistics import faults
from nanfix.model.snapshot import read, restore, squared_norm, take
from nanfix.model.training_step import Batch
from nanfix.private.objects import all_layers
from nanfix.recorder.recording import OUTGROWN, Recording
from nanfix.records.cause import Cause
from nanfix.records.diagnosis import Diagnosis, Finding, Onset, Phase

if TYPE_CHECKING:
    import keras

FEW = 32  # rows that a model is asked for, to see whether its predictions are finite
BATCHES, SECONDS = 64, 2.0  # of validation data that are looked through for rows at fault
MOST_TESTS = 128  # of parts of a batch, until its rows at fault are found
HALF = ("float16", "bfloat16")
FINE = "weights and training loss stayed finite throughout"


@dataclass(frozen=True)
class Inference:
    """What was seen of a model that is not finite in inference mode.

    `faults` say what is wrong with its statistics, `seen` is the first batch that fails under the
    microscope, `rows` are those at fault, of the data looked at. `on_training_rows` says that rows
    which were trained on fail too, `in_training` that they do so in training mode as well.
    """

    faults: tuple[str, ...] = ()
    layer: str | None = None
    seen: Observation | None = None
    rows: tuple[int, ...] = ()
    on_training_rows: bool = False
    in_training: bool = False
    validated: bool = True

    @property
    def of_the_model(self) -> bool:
        """Whether the model is at fault, and not the data that it was given alone."""
        return bool(self.faults) or self.on_training_rows


def was_validated(history: Mapping[str, Sequence[float]]) -> bool:
    """Say whether the last validation loss of a training is finite."""
    figures = {
        name.removeprefix("val_"): values[-1]
        for name, values in history.items()
        if name.startswith("val_") and values
    }
    loss = named_loss(figures)
    return loss is not None and math.isfinite(loss)


def doubtful(model: "keras.Model", recording: Recording) -> bool:
    """Say whether a model that trained finitely may give something non-finite in inference.

    Code of the user's may do something else there, half precision may overflow where nothing is
    dropped out, and a last step may have thrown the weights far.
    """
    if not callable_alone(model):
        return False
    layers = all_layers(model)
    if any(getattr(layer, "compute_dtype", None) in HALF for layer in layers):
        return True
    if any(_may_differ(layer) for layer in layers):
        return True
    if not recording.snapshots:
        return False
    squares = sum(squared_norm(read(weight)) for weight in model.trainable_variables)
    return math.sqrt(squares) > OUTGROWN * recording.initial.weight_norm > 0


def few_inputs(data: TrainingData, recording: Recording) -> Any:
    """Return inputs of some rows that were trained on, at no cost to a stream; None without any."""
    part = data.training_part()
    if part.is_arrays:
        count = rows_in(part.x) or 0
        rows = np.unique(np.linspace(0, max(count - 1, 0), FEW).astype(int))
        return as_keras(take_rows(part.x, rows))
    batch = recording.first_batch
    return None if batch is None else take_rows(unpacked(batch)[0], slice(0, FEW))


def predicts_finite(model: "keras.Model", inputs: Any) -> bool:
    """Say whether what the model gives in inference for these inputs is finite; leaves its state as
    it was.
    """
    before = [(variable, np.array(variable)) for variable in model.non_trainable_variables]
    counted = counters(model)
    try:
        return not len(_nonfinite_rows(model(inputs, training=False)))
    finally:
        for variable, value in before:
            variable.assign(value)
        count_again(counted)


def look(
    model: "keras.Model", validation: TrainingData, training_rows: TrainingData, *, validated: bool
) -> Inference:
    """Look for what is not finite in inference: in the `validation` data, or else in rows that were
    trained on. The state of the model is as it was.
    """
    found = faults(model)
    known = Inference(
        tuple(fault for _, fault in found), found[0][0].name if found else None, validated=validated
    )
    state = take(model)
    if state is None or not callable_alone(model):
        return known
    step = model.test_step if validated else partial(_forward, model)
    batch = next(iter(_batches(training_rows)), None)
    try:
        seen, rows = _first_failure(model, validation, step, at_once=bool(found))
        inputs = None if batch is None else unpacked(batch)[0]
        fails = inputs is not None and _fails(model, inputs, training=False)
        return replace(
            known,
            seen=seen,
            rows=tuple(rows) if validation.is_arrays or not validated else (),
            on_training_rows=fails,
            in_training=fails and _fails(model, inputs, training=True),
        )
    except NOT_EAGERLY as refused:
        if is_raised_by_nanfix(refused):
            raise
        return known
    finally:
        restore(state)


def explained(inference: Inference, audit: Audit, onset: Onset, run: Run) -> Diagnosis:
    """Return the diagnosis of a run whose training is fine and whose model is not fit for use, or
    whose validation data are not.
    """
    seen = inference.seen or Observation()
    findings = [*_findings(inference, seen, audit)]
    if inference.on_training_rows:
        # What may hold NaN until something is seen, and still does, is read in inference.
        findings += nonfinite_start(run)
    phase = Phase.VALIDATION if inference.validated else Phase.INFERENCE
    return Diagnosis(
        onset,
        tuple(sorted(findings, key=lambda finding: -finding.weight)),
        replace(seen.place, phase=phase, layer=seen.place.layer or inference.layer),
        audit.rows or inference.rows,
        "the validation data" if inference.validated else "the data",
    )


def statistics_run_away(failing: Observation) -> Iterator[Finding]:
    """Yield the finding that a layer's statistics have overflowed in training, as its momentum lets
    them grow at each step.
    """
    momentum = getattr(failing.layer, "momentum", None)
    if isinstance(momentum, float | int) and abs(momentum) > 1:
        evidence = (
            f"with a momentum of {momentum:g} those of layer {failing.layer.name} grow at each "
            f"step: {failing.place.values}"
        )
        yield Finding(Cause.INFERENCE_STATISTICS, 0.97, evidence)


def of_frozen_layer(failing: Observation, run: Run) -> Iterator[Finding]:
    """Yield the finding that training goes by statistics with which nothing finite can be
    computed: those of a frozen layer, which no step changes.
    """
    for layer, fault in faults(run.model):
        if layer is failing.layer and not layer.trainable:
            yield Finding(Cause.INFERENCE_STATISTICS, 0.96, f"{fault}; the layer is frozen")


def _findings(inference: Inference, seen: Observation, audit: Audit) -> Iterator[Finding]:
    """Statistics first, then data with holes, then what the microscope shows."""
    for fault in inference.faults:
        yield Finding(Cause.INFERENCE_STATISTICS, 0.95, fault)
    where = seen.place.values or FINE
    if inference.in_training and not inference.faults:
        evidence = (
            f"the last steps have thrown the weights so far that the model overflows: {where}"
        )
        yield Finding(Cause.LEARNING_RATE, 0.91, evidence)
    elif inference.on_training_rows and not inference.faults:
        evidence = f"rows that were trained on are finite in training and not in inference: {where}"
        yield Finding(Cause.INFERENCE_ONLY, 0.91, evidence)
    if not inference.validated:
        if seen.half:
            yield Finding(Cause.REDUCED_PRECISION, 0.94, where)
        return
    yield from _of_validation_data(audit, seen, where, alone=not inference.of_the_model)


def _of_validation_data(
    audit: Audit, seen: Observation, where: str, *, alone: bool
) -> Iterator[Finding]:
    holes = audit.batch_inputs_nonfinite
    if holes or alone:
        yield Finding(Cause.VALIDATION_ONLY, 0.9, audit.input_evidence if holes else where)
    if seen.half and not holes:
        yield Finding(Cause.REDUCED_PRECISION, 0.94, where)
    if holes:
        evidence = f"in the validation data, {audit.input_evidence}"
        yield Finding(Cause.NONFINITE_INPUT, 0.8, evidence)
    if audit.batch_targets_nonfinite:
        evidence = f"in the validation data, {audit.target_evidence}"
        yield Finding(Cause.NONFINITE_TARGET, 0.8, evidence)
    if audit.label_evidence:
        evidence = f"in the validation data, {audit.label_evidence}"
        yield Finding(Cause.INVALID_LABEL, 0.8, evidence)


def _may_differ(layer: "keras.Layer") -> bool:
    """Say whether a layer is the user's own and is told whether it trains."""
    call = type(layer).call
    if (getattr(call, "__module__", None) or "").split(".")[0] == "keras":
        return False
    return "training" in inspect.signature(call).parameters


def _forward(model: "keras.Model", batch: Batch) -> dict[str, Any]:
    model(unpacked(batch)[0], training=False)
    return {}


def _fails(model: "keras.Model", inputs: Any, *, training: bool) -> bool:
    return bool(len(_nonfinite_rows(model(inputs, training=training))))


def _nonfinite_rows(outputs: Any) -> np.ndarray:
    """Return the rows of outputs that hold NaN or inf."""
    bad: list[np.ndarray] = []
    for leaf in tree.flatten(outputs):
        array = np.atleast_1d(np.asarray(leaf)) if hasattr(leaf, "dtype") else np.zeros(1)
        if array.dtype.kind in "fV":
            finite = np.isfinite(array.astype("float64")).reshape(len(array), -1)
            bad.append(np.flatnonzero(~finite.all(axis=1)))
    return np.unique(np.concatenate(bad)) if bad else np.empty(0, int)


def _batches(data: TrainingData) -> list[Batch]:
    """Return batches of the data, as Keras evaluates on them."""
    if data.is_arrays:
        arguments = data.arguments or {}
        size = arguments.get("validation_batch_size") or batch_size_of(data)
        return list(itertools.islice(judged_on(data, size).x, BATCHES))
    return [] if isinstance(data.x, Iterator) else first_batches(data.x, BATCHES)


def _first_failure(
    model: "keras.Model", validation: TrainingData, step: Callable[[Batch], Any], *, at_once: bool
) -> tuple[Observation | None, list[int]]:
    """Return the first batch of which something is not finite, under the microscope, and the rows
    at fault in all of them; `at_once` the first batch is looked at in any case.
    """
    deadline, seen, found, before = time.perf_counter() + SECONDS, None, [], 0
    for batch in _batches(validation):
        rows = _rows_at_fault(model, batch, step)
        if seen is None and (at_once or rows is not None):
            model.reset_metrics()
            seen = observe(model, batch, step)
        found += [before + row for row in rows or ()]
        before += rows_in(batch) or 0
        if time.perf_counter() > deadline:
            break
    return seen, found


def _rows_at_fault(
    model: "keras.Model", batch: Batch, step: Callable[[Batch], Any]
) -> list[int] | None:
    """Return the rows for which predictions or loss are not finite, none where that cannot be told
    of single ones; None where the whole batch is fine.
    """

    def fails(part: Any) -> bool:
        model.reset_metrics()
        loss = loss_of(step(part))
        return loss is not None and not math.isfinite(loss)

    rows = _nonfinite_rows(model(unpacked(batch)[0], training=False)).tolist()
    if rows:
        return rows
    if not fails(batch):
        return None
    pending, tests = [np.arange(rows_in(batch) or 0)], 0
    while pending:
        part = pending.pop()
        tests += 1
        if tests > MOST_TESTS:
            return []
        if len(part) and fails(take_rows(batch, part)):
            rows += part.tolist() if len(part) == 1 else []
            pending += np.array_split(part, 2)[::-1] if len(part) > 1 else []
    return rows
