"""One training step under the microscope: where it first turns non-finite, and by how much."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from nanfix.changes.quotients import MOVED
from nanfix.explain._constants import Constants
from nanfix.explain._edges import edge_beside
from nanfix.explain._lineage import Lineage
from nanfix.explain.given import GivenOperands, range_of
from nanfix.model.faults import is_raised_by_nanfix, one_line
from nanfix.model.logged_losses import loss_of
from nanfix.model.operations import Operation, array_of, is_float, traced
from nanfix.model.optimizers import Gradients, listening_to_updates
from nanfix.model.run import has_stock_step
from nanfix.model.training_step import Batch
from nanfix.private.tensorflow import functions_run_eagerly
from nanfix.records.diagnosis import Phase, Place
from nanfix.records.unsafe_operations import (
    DIFFERENCES,
    SHARES_OF_EXPONENTIALS,
    SQUEEZED,
    UNSAFE_OPERATIONS,
    name_of,
)

# Kernels that answer 0 where a gradient of 0 meets an infinite slope, that of a root of 0. What is
# compiled by XLA multiplies the two, and that is NaN.
MASKING = ("SqrtGrad",)
# What makes a number of usual size of a great one, and what may stand between that and a quotient.
SQUEEZES = ("Asinh", "Atan", "Erf", "Log", "Log1p", "Sigmoid", "Tanh")
CARRIES = (*MOVED, "AddV2", "Cast", "Maximum", "Minimum", "Mul")
LOOKED_INTO = (*MOVED, "AddV2", "Mul", "Sum")  # by the stable form of a logarithm
SWALLOWING = ("MaxPool", "MaxPoolV2", "MaxPool3D")  # on a CPU they make the lowest number of NaN
LOWEST = 1e30  # of which, times weights, more than this is left
ASKING = ("IsNan", "IsInf", "IsFinite")  # which numbers are not finite
# Numbers that are copied to float64 at a time, 8 MB, so that no gradient is copied whole.
PIECE = 1_000_000
# What a step that trains in a graph may raise when it is run eagerly: then the look at it is
# missing, not the training wrong.
NOT_EAGERLY = (
    tf.errors.OpError,  # what XLA computes, an operation of TensorFlow's refuses: an index, a label
    AttributeError,  # tensors of a graph have attributes that eager ones have not: op, graph, name
    RuntimeError,  # what needs a graph, or the context of a replica; what is not implemented
    TypeError,  # a number where a tensor of a graph was
    ValueError,  # a shape that a graph leaves open
)


@dataclass(frozen=True)
class Observation:
    """One training step seen through the microscope.

    `place` is the first operation with finite inputs and a non-finite output, if any,
    or else with the first NaN; `masked` says that its own kernel hides that, and only what XLA
    compiles shows it. `magnitude` is the largest finite number that went into it; `over_nothing`
    says that it is a mean or maximum of no elements, or of masked ones alone; norms are over all
    variables. `multiplied` is the line that multiplies NaN with 0, as of a mask, where it was asked
    before which numbers are not finite. `error` is what the step raised when it was run eagerly, if
    TensorFlow refused it.
    """

    place: Place = field(default_factory=Place)
    phase: Phase = Phase.UNKNOWN
    operation: str | None = None
    layer: Any = None
    magnitude: float = 0.0
    half: bool = False
    masked: bool = False
    over_nothing: bool = False
    tainted_input: bool = False
    loss: float | None = None
    gradient_norm: float | None = None
    # Of each variable, in the order the optimizer is given them.
    gradient_norms: tuple[float, ...] = ()
    multiplied: str | None = None
    error: str | None = None


def observe(
    model: keras.Model, batch: Batch, step: Callable[[Batch], Any] | None = None
) -> Observation:
    """Run one training step, or another `step`, eagerly on `batch` and say where it first turned
    non-finite.

    Changes the state of the model.
    """
    known = batch if has_stock_step(model) else None  # a step of the user's own may take no target
    microscope, given, error = _Microscope(batch), GivenOperands(known), None
    norms: list[float] = []

    def listen(optimizer: keras.optimizers.Optimizer, gradients: Gradients) -> None:
        initial_scale = getattr(optimizer, "initial_scale", 1.0)
        loss_scale = float(getattr(optimizer, "dynamic_scale", initial_scale))
        norms.extend(_norm(each) / loss_scale for each in gradients if each is not None)

    def visit(operation: Operation) -> None:
        microscope.visit(operation)
        given.visit(operation)

    with listening_to_updates(model, listen), functions_run_eagerly(True), traced(visit):
        try:
            logs = (step or model.train_step)(batch)
        except NOT_EAGERLY as refused:
            if is_raised_by_nanfix(refused):
                raise
            logs, error = {}, one_line(refused)
    norm = math.sqrt(sum(n * n for n in norms)) if norms else None
    seen = Observation(
        tainted_input=microscope.tainted,
        multiplied=microscope.multiplied,
        loss=loss_of(logs),
        gradient_norm=norm if norm is not None and math.isfinite(norm) else None,
        gradient_norms=tuple(norms),
        error=error,
    )
    culprit = microscope.culprit or microscope.turned
    # What is computed outside of TensorFlow comes in as a constant does, where nothing is a graph.
    place = (
        None
        if model.run_eagerly
        else microscope.constants.place_behind(culprit or microscope.tainting, microscope.lineage)
    )
    if place is not None:
        return replace(seen, place=place, phase=place.phase)
    if culprit is None and model.jit_compile and microscope.masked is not None:
        culprit, seen = microscope.masked, replace(seen, masked=True)
    return seen if culprit is None else _located(seen, microscope, given, culprit)


def _located(
    seen: Observation, microscope: "_Microscope", given: GivenOperands, culprit: Operation
) -> Observation:
    """Return the observation with what the culprit is, where it is, and the numbers it
    was given.
    """
    phase = culprit.phase
    origin = microscope.lineage.forward_of(culprit) if phase is Phase.GRADIENT else culprit
    inputs = [
        array_of(tensor)
        for tensor in culprit.inputs
        if is_float(tensor) and tensor.shape.num_elements()
    ]
    numbers = ", ".join(map(range_of, inputs)) or "nothing"
    if culprit.kind == "RealDiv" and len(inputs) == 2 and (inputs[1] == 0).any():
        numbers = f"{numbers}, a division by 0,"
    operation = origin.kind if origin is not culprit else name_of(culprit.kind, inputs)
    formula = _formula(microscope, culprit, origin)
    if microscope.squeezed and operation == "RealDiv" and formula is None:
        operation = SQUEEZED
    line = origin.line
    source = line.source if line is not None else None
    made_of = _made_of(given, culprit) if origin is culprit else None
    # Of targets alone an edge caps nothing that the model could make less.
    at_edge = phase is Phase.FORWARD or (phase is Phase.LOSS and made_of is not None)
    gave = "0, which XLA makes NaN" if seen.masked else range_of(_first_nonfinite(culprit))
    layer = origin.layer
    return replace(
        seen,
        place=Place(
            phase,
            layer=layer.name if layer is not None else None,
            operation=operation,
            source=source,
            values=f"{culprit.kind} of {numbers} gave {gave}",
            code=line.code if line is not None else None,
            given=given.of(source, operation),
            made_of=made_of,
            edge=_edge(operation, culprit) if at_edge else None,
            formula=formula,
            alike=line.alike if line is not None else (),
        ),
        phase=phase,
        operation=operation,
        layer=origin.layer,
        magnitude=_largest(culprit.inputs),
        over_nothing=microscope.lineage.is_over_nothing(culprit, origin),
        half=any(t.dtype in (tf.float16, tf.bfloat16) for t in (*culprit.inputs, *culprit.outputs)),
    )


def _formula(microscope: "_Microscope", culprit: Operation, origin: Operation) -> str | None:
    """Return what the culprit is part of, where that has a stable form."""
    lineage, unsafe = microscope.lineage, UNSAFE_OPERATIONS.get(origin.kind)
    if microscope.shared or lineage.is_over_exponentials(culprit):
        return SHARES_OF_EXPONENTIALS
    if unsafe is not None and lineage.is_of_difference(origin, unsafe.operand):
        return DIFFERENCES
    return None


def _made_of(given: GivenOperands, culprit: Operation) -> str | None:
    unsafe = UNSAFE_OPERATIONS.get(culprit.kind)
    return None if unsafe is None else given.made_of(culprit.inputs[unsafe.operand])


def _edge(operation: str, culprit: Operation) -> float | None:
    unsafe = UNSAFE_OPERATIONS.get(operation)
    return None if unsafe is None else edge_beside(unsafe, array_of(culprit.inputs[unsafe.operand]))


class _Microscope:
    """Looks, over one step, for the first culprit: the operation that made a non-finite
    value of finite ones.

    Where there is none before NaN is in the loss, as infinities may be meant (-inf for what a
    softmax is to leave out), the one that `turned` them to NaN. `masked` is the first that has a
    singularity and hides it. What the culprit made is `squeezed` where something takes it that
    bears great numbers, and exponentials are `shared` where their sum divides them.
    """

    def __init__(self, batch: Batch):
        self.culprit: Operation | None = None
        self.turned: Operation | None = None
        self.masked: Operation | None = None
        self.squeezed = self._logged = False
        self._shares: list[tf.Tensor] = []
        self._made: list[tf.Tensor] = []  # by the culprit, and of that
        # A non-finite value came in from outside, and no mask has kept it from a total, such as the
        # loss, or from a gradient, which this operation made.
        self.tainting: Operation | None = None
        self.multiplied: str | None = None
        self._swallowed = False  # NaN, of which the lowest number was made, as pooling does
        self._asked: set[Phase] = set()  # in which phases it is asked what is not finite
        self.lineage, self.constants = Lineage(), Constants()
        given = tf.nest.flatten(batch, expand_composites=True)
        self.lineage.from_outside(each for each in given if isinstance(each, tf.Tensor))

    @property
    def tainted(self) -> bool:
        return self.tainting is not None

    @property
    def shared(self) -> bool:
        return bool(self._shares) and not self._logged

    def visit(self, operation: Operation) -> None:
        if self.culprit is not None:
            self._follow(operation)
            return
        self.constants.note(self.lineage.from_outside(operation.inputs), operation)
        inputs_finite = self.lineage.are_finite(operation.inputs)
        outputs_finite = self.lineage.are_finite(operation.outputs)
        self.lineage.add(operation)
        swallows = not inputs_finite and outputs_finite and operation.kind in SWALLOWING
        self._swallowed = self._swallowed or swallows
        if self.masked is None and operation.kind in MASKING and _masks(operation):
            self.masked = operation
        reads = operation.kind == "ReadVariableOp"  # shows what an earlier operation wrote
        if (
            inputs_finite
            and not outputs_finite
            and not reads
            and "compute_metrics" not in operation.functions
        ):
            # Of NaN a comparison makes finite numbers: what fails on those fails of that NaN.
            turned = self.turned if self.tainted else None
            self.culprit = turned or operation
            self._made = list(self.culprit.outputs)
            if self._swallowed and _largest(operation.inputs) > LOWEST:
                self.tainting = self.tainting or operation
        elif not inputs_finite and operation.kind in ASKING:
            self._asked.add(operation.phase)
        elif not inputs_finite and not outputs_finite:
            self._pass_on(operation)

    def _pass_on(self, operation: Operation) -> None:
        """Look at an operation that has made non-finite values of others."""
        computed = "compute_metrics" not in operation.functions
        if operation.phase in self._asked and self.multiplied is None:
            line = operation.line if _multiplies_nan_with_zero(operation) else None
            self.multiplied = None if line is None else line.source
        total = any(is_float(tensor) and not tensor.shape.rank for tensor in operation.outputs)
        late = operation.phase in (Phase.GRADIENT, Phase.UPDATE)
        if self.tainting is None and computed and (total or late):
            self.tainting = operation
        if (
            self.turned is None
            and computed
            and _has_nan(operation.outputs)
            and not _has_nan(operation.inputs)
        ):
            self.turned = operation

    def _follow(self, operation: Operation) -> None:
        """Look at what is computed of what the culprit made."""
        if self.culprit is not None and self.culprit.kind == "Exp":
            self._follow_exponential(operation)
        if any(taken is made for taken in operation.inputs for made in self._made):
            self.squeezed = self.squeezed or operation.kind in SQUEEZES
            if operation.kind in CARRIES:
                self._made += operation.outputs

    def _follow_exponential(self, operation: Operation) -> None:
        """Look whether its sum divides it, and no logarithm is taken of that."""
        self.lineage.add(operation)
        takes = any(taken is share for taken in operation.inputs for share in self._shares)
        if self.lineage.is_over_exponentials(operation) or (
            takes and operation.kind in LOOKED_INTO
        ):
            self._shares += operation.outputs
        self._logged = self._logged or (takes and operation.kind in ("Log", "Log1p"))


def _masks(operation: Operation) -> bool:
    """Say whether the gradient of a root is 0 at a root of 0, whose slope is infinite."""
    root, gradient = (array_of(tensor) for tensor in operation.inputs[:2])
    return bool(((root == 0) & (gradient == 0)).any())


def _multiplies_nan_with_zero(operation: Operation) -> bool:
    if operation.kind != "Mul":
        return False
    left, right = map(array_of, operation.inputs)
    return bool(((np.isnan(left) & (right == 0)) | (np.isnan(right) & (left == 0))).any())


def _largest(tensors: Iterable[tf.Tensor]) -> float:
    """Return the magnitude of the largest finite number, 0 where there is none."""
    arrays = [array_of(tensor) for tensor in tensors if is_float(tensor)]
    finite = (np.abs(array[np.isfinite(array)]) for array in arrays)
    return max((float(array.max(initial=0.0)) for array in finite), default=0.0)


def _has_nan(tensors: Iterable[tf.Tensor]) -> bool:
    return any(is_float(tensor) and bool(np.isnan(array_of(tensor)).any()) for tensor in tensors)


def _norm(gradient: tf.Tensor | tf.IndexedSlices) -> float:
    """Return the norm of a gradient, in float64 but piece by piece."""
    sparse = isinstance(gradient, tf.IndexedSlices)
    values = array_of(gradient.values if sparse else gradient).reshape(-1)
    pieces = (
        values[start : start + PIECE].astype("float64") for start in range(0, len(values), PIECE)
    )
    return math.sqrt(sum(float(np.dot(piece, piece)) for piece in pieces))


def _first_nonfinite(operation: Operation) -> np.ndarray:
    arrays = [array_of(tensor) for tensor in operation.outputs if is_float(tensor)]
    return next(a for a in arrays if not np.isfinite(a).all())
