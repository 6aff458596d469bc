"""Replay a recording one step at a time, find the exact onset, and put the failing step under the microscope."""

import math
import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import tree
from tensorflow.python.eager import context

from nanfix.diagnosis import Onset, Phase, Place
from nanfix.optrace import Operation, traced
from nanfix.recording import RecordedStep, Recording
from nanfix.snapshot import Snapshot, optimizers, restore, take
from nanfix.steps import RecordingStep, loss_of

# The gradient of an operation f is computed by others; these betray which f it was.
SINGULAR = {"Sqrt", "Rsqrt", "Log", "Log1p", "Pow", "RealDiv", "DivNoNan", "Reciprocal", "Acos", "Asin", "Acosh", "Atanh", "Exp"}
OVERFLOWING = 1e30  # losses beyond this overflow float32 when they are summed, each as often as it has rows
REDUCTIONS = {"Mean", "Max", "Min", "Prod"}
GRADIENT_DEPTH = 6  # operations in a row that compute the gradient of a single one
DIVISIONS = {"RealDiv", "Div", "Xdivy"}
COMPUTED = {"Exp", "Softmax", "Square", "Sqrt", "Log", "Pow", "MatMul", "Sigmoid", "Tanh", "Relu", "SquaredDifference"}  # no mask


@dataclass(frozen=True)
class Observation:
    """One training step seen through the microscope.

    `place` is the first operation with finite inputs and a non-finite output, if any, or else with the first NaN;
    `magnitude` the largest finite number that went into it; `over_nothing` says that it is a mean or maximum of no elements,
    or of masked ones alone; norms are over all variables. `error` is what TensorFlow refused to compute.
    """

    place: Place = field(default_factory=Place)
    phase: Phase = Phase.UNKNOWN
    operation: str | None = None
    layer: Any = None
    magnitude: float = 0.0
    half: bool = False
    over_nothing: bool = False
    tainted_input: bool = False
    loss: float | None = None
    gradient_norm: float | None = None
    gradient_norms: tuple[float, ...] = ()  # of each variable, in the order the optimizer is given them
    error: str | None = None


@dataclass(frozen=True)
class Replay:
    """What replaying a recording showed. `onset` is None when the replay stayed finite: the failure was transient."""

    onset: Onset | None
    before: Snapshot | None = None  # the state just before the failing step
    batch: Any = None
    failing: Observation | None = None
    first: Observation | None = None  # the first batch from the initial weights
    gradient_norm: float | None = None  # of the last finite step
    loss_trend: tuple[float, ...] = ()


def replay(model: Any, recording: Recording, detected: Onset) -> Replay:
    """Step through the recorded batches until the state or the loss is non-finite; look closely at that step.

    The model is left in the state of the newest snapshot, its random state as it was.
    """
    step_of_keras = recording.step_of_keras
    if not recording.steps or step_of_keras is None:
        return Replay(detected)
    with preserved_randomness():
        restore(recording.newest)
        earlier = before = recording.newest
        losses: list[float] = []
        for index, step in enumerate(recording.steps):
            _set_rates(step)
            model.reset_metrics()  # so that the loss is this step's alone
            loss, error = _run(step_of_keras, step.batch)
            losses.append(loss)
            after = take(model)
            if after is None or error or not math.isfinite(loss):
                failing = _observed_from(before, model, step)
                last = _observed_from(earlier, model, recording.steps[max(index - 1, 0)])
                restore(recording.initial)
                first = observe(model, recording.first_batch)
                restore(recording.newest)
                return Replay(
                    step.at, before, step.whole_batch, failing, first, last.gradient_norm or first.gradient_norm, tuple(losses)
                )
            earlier, before = before, after
        restore(recording.newest)
    largest = max(map(abs, losses))
    if largest > OVERFLOWING:  # every step is finite, but not the sum from which Keras takes the mean of the epoch
        last = recording.steps[-1]
        return Replay(detected, earlier, last.whole_batch, Observation(magnitude=largest), loss_trend=tuple(losses))
    return Replay(None, loss_trend=tuple(losses))


def _observed_from(state: Snapshot, model: Any, step: RecordedStep) -> Observation:
    restore(state)
    _set_rates(step)
    return observe(model, step.whole_batch)


def _set_rates(step: RecordedStep) -> None:
    """Set the learning rates that callbacks had set for this step."""
    for variable, value in step.rates:
        variable.assign(value)


def observe(model: Any, batch: Any) -> Observation:
    """Run one training step eagerly on `batch` and say where it first turned non-finite. Changes the state."""
    microscope = _Microscope()
    error = None
    with _gradients_of(model) as gradients, traced(microscope.visit):
        try:
            logs = model.train_step(batch)
        except tf.errors.InvalidArgumentError as refused:
            logs, error = {}, str(refused).split("\n")[0]
    norm = _norm(gradients)
    culprit = microscope.culprit or microscope.turned
    seen = Observation(
        tainted_input=microscope.tainted,
        loss=loss_of(logs),
        gradient_norm=norm if norm is not None and math.isfinite(norm) else None,
        gradient_norms=tuple(_norm([gradient]) or 0.0 for gradient in gradients),
        error=error,
    )
    if culprit is None:
        return seen
    phase = _phase(culprit)
    origin = microscope.forward_of(culprit) if phase is Phase.GRADIENT else culprit
    inputs = [np.asarray(t, "float64") for t in culprit.inputs if t.dtype.is_floating and t.shape.num_elements()]
    magnitude = max((float(np.abs(a[np.isfinite(a)]).max(initial=0.0)) for a in inputs), default=0.0)
    name = origin.layer.name if origin.layer is not None else None
    values = f"{culprit.kind} of {', '.join(map(_range, inputs)) or 'nothing'} gave {_range(_first_nonfinite(culprit))}"
    return replace(
        seen,
        place=Place(phase, name, origin.kind, origin.source, values),
        phase=phase,
        operation=origin.kind,
        layer=origin.layer,
        magnitude=magnitude,
        over_nothing=microscope.is_over_nothing(culprit),
        half=any(t.dtype in (tf.float16, tf.bfloat16) for t in (*culprit.inputs, *culprit.outputs)),
    )


@contextmanager
def preserved_randomness() -> Iterator[None]:
    """Put the random states of Python, numpy and eager TensorFlow back afterwards."""
    eager: Any = getattr(context.context(), "_rng", None)
    states = random.getstate(), np.random.get_state(), eager.getstate() if eager is not None else None
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        if eager is not None:
            eager.setstate(states[2])


class _Microscope:
    """Looks, over one step, for the first culprit: the operation that made a non-finite value of finite ones.

    Where there is none, as infinities may be meant (-inf for what a softmax is to leave out), the one that `turned` them to NaN.
    """

    def __init__(self):
        self.culprit: Operation | None = None
        self.turned: Operation | None = None
        self.tainted = False  # a non-finite value came in from outside
        self._made: dict[int, tuple[Any, bool]] = {}  # tensor id -> (tensor kept alive, finite)
        self._touched: dict[int, list[Operation]] = {}

    def visit(self, operation: Operation) -> None:
        if self.culprit is not None:
            return
        inputs_finite = all(self._finite(tensor) for tensor in operation.inputs)
        outputs_finite = all(self._finite(tensor) for tensor in operation.outputs)
        for tensor in (*operation.inputs, *operation.outputs):
            self._touched.setdefault(id(tensor), []).append(operation)
        reads = operation.kind == "ReadVariableOp"  # shows what an earlier operation wrote
        if inputs_finite and not outputs_finite and not reads and "compute_metrics" not in operation.functions:
            self.culprit = operation
        elif not inputs_finite and operation.kind not in ("IsNan", "IsInf", "IsFinite") and not outputs_finite:
            self.tainted = True
            computed = "compute_metrics" not in operation.functions
            if self.turned is None and computed and _has_nan(operation.outputs) and not _has_nan(operation.inputs):
                self.turned = operation

    def forward_of(self, culprit: Operation) -> Operation:
        """Return the forward operation whose gradient `culprit` computes: one that shares a tensor with it.

        A gradient of several operations, as that of acos, shares none but at its beginning: there a singular one is looked for.
        """
        touching = self._forward(culprit.inputs)
        tensors = list(culprit.inputs)
        for _ in range(GRADIENT_DEPTH):
            if touching:
                break
            makers = [o for t in tensors for o in self._makers(t) if _phase(o) is Phase.GRADIENT]
            tensors = [t for o in makers for t in o.inputs if t.shape.rank]  # scalars are shared
            touching = [o for o in self._forward(tensors) if o.kind in SINGULAR]
        singular = [o for o in touching if o.kind in SINGULAR]
        return (singular or touching or [culprit])[-1]

    def _forward(self, tensors: Iterable[Any]) -> list[Operation]:
        """Return the operations of the forward pass and the loss that take or make one of the tensors."""
        return [o for t in tensors for o in self._touched.get(id(t), []) if _phase(o) in (Phase.FORWARD, Phase.LOSS)]

    def is_over_nothing(self, culprit: Operation) -> bool:
        """Say whether an operation reduces no elements at all, or divides by a count or sum of a mask that is 0."""
        if culprit.kind in REDUCTIONS:
            return culprit.inputs[0].shape.num_elements() == 0
        if culprit.kind not in DIVISIONS or not (np.asarray(culprit.inputs[1]) == 0).any():
            return False
        kinds = set(self._made_by(culprit.inputs[1], depth=6))
        return bool(kinds & {"Sum", "Mean", "Size", "Prod"}) and not kinds & COMPUTED

    def _made_by(self, tensor: Any, depth: int) -> Iterator[str]:
        """Yield the kinds of the operations that a tensor comes from."""
        for operation in self._makers(tensor) if depth else []:
            yield operation.kind
            for made_from in operation.inputs:
                yield from self._made_by(made_from, depth - 1)

    def _makers(self, tensor: Any) -> list[Operation]:
        return [o for o in self._touched.get(id(tensor), []) if any(output is tensor for output in o.outputs)]

    def _finite(self, tensor: Any) -> bool:
        if not getattr(tensor, "dtype", tf.int32).is_floating:
            return True
        known = self._made.get(id(tensor))
        if known is None:
            known = (tensor, bool(np.isfinite(np.asarray(tensor, "float64")).all()))
            self._made[id(tensor)] = known
        return known[1]


def _has_nan(tensors: Iterable[Any]) -> bool:
    return any(t.dtype.is_floating and bool(np.isnan(np.asarray(t, "float64")).any()) for t in tensors)


@contextmanager
def _gradients_of(model: Any) -> Iterator[list[Any]]:
    """Collect the gradients that the step hands to the model's optimizers."""
    collected: list[Any] = []

    def collecting(optimizer: Any) -> Any:
        original = type(optimizer).apply_gradients

        def apply_gradients(grads_and_vars, *args, **kwargs):
            pairs = list(grads_and_vars)
            collected.extend(gradient for gradient, _ in pairs if gradient is not None)
            return original(optimizer, pairs, *args, **kwargs)

        return apply_gradients

    patched = optimizers(model)
    for optimizer in patched:
        optimizer.apply_gradients = collecting(optimizer)
    try:
        yield collected
    finally:
        for optimizer in patched:
            del optimizer.apply_gradients


def _run(step: RecordingStep, batch: Any) -> tuple[float, str | None]:
    try:
        logs = step.replay(batch)
    except tf.errors.InvalidArgumentError as refused:
        return math.nan, str(refused)
    loss = loss_of(logs)
    return (0.0 if loss is None else loss), None


def _norm(gradients: list[Any]) -> float | None:
    if not gradients:
        return None
    arrays = [np.asarray(tf.convert_to_tensor(gradient), "float64") for gradient in gradients]
    return float(np.sqrt(sum(float(np.square(a).sum()) for a in arrays)))


def _phase(operation: Operation) -> Phase:
    if "apply_gradients" in operation.functions:
        return Phase.UPDATE
    if "gradient" in operation.functions:
        return Phase.GRADIENT
    if operation.functions & {"compute_loss", "_compute_loss"}:
        return Phase.LOSS
    return Phase.FORWARD


def _first_nonfinite(operation: Operation) -> np.ndarray:
    arrays = [np.asarray(t, "float64") for t in operation.outputs if t.dtype.is_floating]
    return next(a for a in arrays if not np.isfinite(a).all())


def _range(values: np.ndarray) -> str:
    """Describe the values of an array in a few words."""
    finite = values[np.isfinite(values)]
    counts = [f"{n} {word}" for n, word in ((np.isnan(values).sum(), "NaN"), (np.isinf(values).sum(), "inf")) if n]
    if finite.size and finite.min() == finite.max():
        counts.insert(0, f"{finite.min():.4g}")
    elif finite.size:
        counts.insert(0, f"{finite.min():.4g}..{finite.max():.4g}")
    return " with ".join([counts[0], " and ".join(counts[1:])]) if len(counts) > 1 else counts[0]


def as_batch(x: Any, y: Any, sample_weight: Any) -> Any:
    """Return rows of the user's arrays as the batch of tensors that Keras makes of them."""

    def tensor(leaf: Any) -> Any:
        array = np.asarray(leaf)
        return tf.convert_to_tensor(array.astype(keras.config.floatx()) if array.dtype.kind == "f" else array)

    given = [part for part in (x, y, sample_weight) if part is not None]
    return tuple(tensor(part) if hasattr(part, "iloc") else tree.map_structure(tensor, part) for part in given)


def flat_batch(batch: Any) -> tuple[list[Any], list[Any], list[Any]]:
    """Return the flattened inputs, targets and sample weights of a batch as numpy arrays."""
    x, y, weight = (_arrays(part) for part in keras.utils.unpack_x_y_sample_weight(batch))
    return x, y, weight


def _arrays(structure: Any) -> list[Any]:
    return [np.asarray(leaf) for leaf in tree.flatten(structure) if leaf is not None]
