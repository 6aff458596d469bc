"""What the loss and the model make of values that training has not met: whether they are finite
there, or fall for ever.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import tree

from nanfix.changes.graph_guard import guarded, install
from nanfix.changes.guards import Guard
from nanfix.data.arrays import Leaf, take_rows
from nanfix.model.activations import activation_name, activation_of, is_bounded
from nanfix.model.addresses import walk
from nanfix.model.crossentropies import UserLoss, takes_logits
from nanfix.model.outputs import in_order, output_names, outputs_of
from nanfix.model.run import Run
from nanfix.model.snapshot import restore, take_as_it_is
from nanfix.private.keras import CompileLoss
from nanfix.records.diagnosis import Phase, Place
from nanfix.records.unsafe_operations import takes_differences

ROWS = 32  # of the sample: one usual batch
COLUMNS = 16  # single outputs looked at, each by three losses
# Times the outputs of the model. A loss with a minimum has passed it at one of these; one that goes
# on falling over six orders of magnitude has none. Squares of 1e9 are finite in float32.
FAR_OUT = (1e3, 1e6, 1e9)
OUTSIDE = (1.0, 30.0, 1e3)  # single outputs, beyond the edge at 0 that logarithms and roots have
DROP = 1e-3  # share of a loss by which it falls; less is rounding in a mean over the rows
# Standard deviation of drawn outputs, before the activation: wide enough for both flanks of a
# sigmoid, and exponentials of them are finite.
SPREAD = 3.0
SHARES = 0.3 ** np.arange(10)  # of what is given, down to 2e-5 of it, until nothing overflows
GREATER = 100.0  # times the weights
SAME = 1e-4  # share by which results of the same computation differ, through rounding in float32
# It takes other outputs than these rows give, or has no call of its own, as a model with a training
# step of its own.
REFUSED = (ValueError, TypeError, IndexError, NotImplementedError, tf.errors.OpError)

Loss = Callable[[np.ndarray], float]


def falls_without_end(guard: Guard, run: Run) -> bool:
    """Say whether the guarded loss draws outputs away for good, so that nothing holds
    the model back any more.

    Beyond the edge of its domain a guarded logarithm is constant, and what else is in the loss may
    have no minimum there.
    """
    last = run.output_activation
    bounded = last is not None and is_bounded(activation_of(last[1]))
    outputs = None if bounded else _outputs(run)
    # Probabilities, whatever made them.
    if outputs is None or ((outputs >= 0).all() and (outputs <= 1).all()):
        return False
    if last is None and _stays(run, outputs):
        return False
    loss, plain = _loss(run, guard), _loss(run)
    ways = (
        [outputs]
        if (outputs >= 0).all()
        else [outputs, -outputs, np.abs(outputs), -np.abs(outputs)]
    )
    try:
        return any(_has_no_bottom(loss, way) for way in ways) or _rewards_leaving(
            loss, plain, outputs
        )
    except REFUSED:
        return False


def needed_activation(run: Run, names: tuple[str, ...]) -> tuple[str, str] | None:
    """Return the layer of an output, by its address, and the first of these activations with which
    it gives what its loss takes, and has a minimum for; None where no output needs one.

    It is tried on drawn outputs, so that the answer does not depend on the weights that a trial has
    left. Of several outputs it is the first whose loss is not finite of them as it stands.
    """
    for head in _heads(run):
        present = activation_of(head.layer)
        if is_bounded(present) or activation_name(head.layer) in names or takes_logits(head.given):
            continue
        drawn = SPREAD * np.random.default_rng(0).normal(size=head.shape).astype("float32")
        try:
            if head.single or not np.isfinite(head.loss(np.asarray(present(drawn)))):
                return _first_within(head, names, drawn)
        except REFUSED:
            continue
    return None


def _first_within(
    head: "_Head", names: tuple[str, ...], drawn: np.ndarray
) -> tuple[str, str] | None:
    for activation in map(keras.activations.get, names):
        values = np.asarray(activation(drawn))
        if np.isfinite(head.loss(values)) and (
            is_bounded(activation) or not _has_no_bottom(head.loss, values)
        ):
            return head.address, activation.__name__
    return None


def relative_exponents(place: Place, run: Run) -> bool:
    """Say whether only the differences of the exponents along the last axis matter, as
    in a softmax written by hand.

    Then the largest can be taken off first, and nothing changes but that no exponential overflows.
    It is tried on what is given to the model or, for a loss, by the model, made so small that it
    does not overflow anyway.
    """
    if (
        place.operation is None
        or not takes_differences(place.operation)
        or place.phase not in (Phase.FORWARD, Phase.LOSS)
    ):
        return False
    layer = next((address for address, layer in walk(run.model) if layer.name == place.layer), None)
    guard = Guard(place.operation, place.source, layer, 0.0, place.code)
    if guard.source is None and guard.layer is None:
        return False
    try:
        if place.phase is Phase.LOSS:
            given, plain, shifted = _outputs(run), _loss(run), _loss(run, guard)
        else:
            given, plain, shifted = (
                take_rows(run.sample.x, _rows(run)),
                _model(run),
                _model(run, guard),
            )
        for share in SHARES if given is not None else ():
            values = _smaller(given, share)
            result = plain(values)
            if np.isfinite(result).all():
                return _same(result, shifted(values))
    except REFUSED:
        pass
    return False


def _same(a: float | np.ndarray, b: float | np.ndarray) -> bool:
    return bool(np.allclose(a, b, rtol=SAME, atol=SAME * float(np.abs(a).max())))


def _model(run: Run, guard: Guard | None = None) -> Callable[[Any], np.ndarray]:
    """Return the model as a function from its inputs to everything that it gives."""

    def outputs(given: Any) -> np.ndarray:
        with ExitStack() as during:
            install(run.model, () if guard is None else (guard,), during)
            given = tree.flatten(run.model(given, training=False))
        return np.concatenate([np.asarray(tensor, "float32").reshape(-1) for tensor in given])

    return outputs


def _smaller(given: Any, share: float) -> Any:
    def smaller(leaf: Leaf) -> Any:
        return (
            (leaf * share).astype(leaf.dtype)
            if isinstance(leaf, np.ndarray) and leaf.dtype.kind == "f"
            else leaf
        )

    return tree.map_structure(smaller, given)


@dataclass(frozen=True)
class _Head:
    """An output that a layer of the model gives, its loss as it was given and as a function of
    values of this shape.
    """

    address: str
    layer: keras.Layer
    given: Any
    loss: Loss
    shape: tuple[int, ...]
    single: bool


def _heads(run: Run) -> Iterator[_Head]:
    """Yield the outputs that layers give, each with its loss on the first rows."""
    if run.output_activation is not None:
        outputs = _outputs(run)
        if outputs is not None:
            yield _Head(*run.output_activation, run.user_loss, _loss(run), outputs.shape, True)
        return
    outputs = list(outputs_of(run))
    targets = in_order(list(run.sample.targets), run.sample.target_names, output_names(run.model))
    if len(outputs) != len(targets):
        return
    for output, target in zip(outputs, targets, strict=True):
        if output.address is not None:
            rows = target[_rows(run)]
            layer, shape = run.members[output.address], (len(rows), *output.shape)
            loss = _loss_on(output.loss, rows)
            yield _Head(output.address, layer, output.loss, loss, shape, False)


def _outputs(run: Run) -> np.ndarray | None:
    """Return what the model gives for the first rows; None where that is no single tensor of a loss
    with a single target.
    """
    if run.user_loss is None or len(run.sample.targets) != 1:
        return None
    outputs = run.model(take_rows(run.sample.x, _rows(run)), training=False)
    return np.nan_to_num(np.asarray(outputs, "float32")) if tf.is_tensor(outputs) else None


def _rows(run: Run) -> slice:
    """Return which rows of the sample are looked at: one usual batch."""
    return slice(0, run.sample.rows_at_once or ROWS)


def _stays(run: Run, outputs: np.ndarray) -> bool:
    """Say whether the outputs stay of their size however great the weights are, as those of a layer
    that divides by their norm.
    """
    before = take_as_it_is(run.model)
    try:
        for weight in run.model.trainable_variables:
            weight.assign(GREATER * weight)
        greater = _outputs(run)
    finally:
        restore(before)
    return greater is not None and bool(np.abs(greater).max() <= 2 * np.abs(outputs).max())


def _loss(run: Run, guard: Guard | None = None) -> Loss:
    """Return the user's loss as a function of the outputs for the first rows."""
    return _loss_on(run.user_loss, run.sample.targets[0][_rows(run)], guard)


def _loss_on(given: UserLoss, targets: np.ndarray, guard: Guard | None = None) -> Loss:
    """Return a loss as a function of the outputs for the rows of these targets."""
    targets = targets.astype("float32") if targets.dtype.kind == "f" else targets
    user_loss = CompileLoss(loss=given)

    def loss(truth: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
        with nullcontext() if guard is None else guarded(guard):
            return user_loss(truth, values)

    # An operation can be guarded in a graph alone; without a guard there is no need to trace one.
    computed = loss if guard is None else tf.function(loss, autograph=False, reduce_retracing=True)
    return lambda outputs: float(
        np.asarray(computed(tf.convert_to_tensor(targets), tf.constant(outputs)))
    )


def _has_no_bottom(loss: Loss, way: np.ndarray) -> bool:
    near, far, farthest = (loss((way * times).astype("float32")) for times in FAR_OUT)
    return near > far > farthest and farthest < 0


def _rewards_leaving(loss: Loss, plain: Loss, outputs: np.ndarray) -> bool:
    """Say whether the guarded loss falls as one of the outputs goes ever further to
    where the plain one is not defined.
    """
    if not np.isfinite(plain(np.abs(outputs))):
        return False  # it is not for leaving its domain that the loss is not finite
    for column in range(min(outputs.shape[-1], COLUMNS)):
        for sign in (1,) if (outputs >= 0).all() else (-1, 1):
            moved = [np.abs(outputs) for _ in OUTSIDE]
            for values, distance in zip(moved, OUTSIDE, strict=True):
                values[..., column] = sign * distance
            if any(np.isfinite(plain(values)) for values in moved):
                continue
            near, far, farthest = map(loss, moved)
            if near > far >= farthest and near - farthest > DROP * abs(near):
                return True
    return False
