"""What the loss and the model make of values that training has not met: whether they are finite
there, or fall for ever.
"""

from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import tree

from nanfix.changes.graph_guard import guarded, install
from nanfix.changes.guards import Guard
from nanfix.changes.loss_installer import in_precision
from nanfix.data.arrays import Leaf, take_rows
from nanfix.model.activations import activation_of, is_bounded
from nanfix.model.addresses import walk
from nanfix.model.crossentropies import UserLoss
from nanfix.model.refusals import REFUSED
from nanfix.model.run import Run
from nanfix.model.snapshot import restore, take_as_it_is
from nanfix.private.keras import CompileLoss
from nanfix.records.diagnosis import Phase, Place
from nanfix.records.features import feature_table
from nanfix.records.unsafe_operations import takes_differences

ROWS = 32  # of the sample: one usual batch
COLUMNS = 16  # single outputs looked at, each by three losses
# Times the outputs of the model. A loss with a minimum has passed it at one of these; one that goes
# on falling over six orders of magnitude has none. Squares of 1e9 are finite in float32.
FAR_OUT = (1e3, 1e6, 1e9)
OUTSIDE = (1.0, 30.0, 1e3)  # single outputs, beyond the edge at 0 that logarithms and roots have
DROP = 1e-3  # share of a loss by which it falls; less is rounding in a mean over the rows
SHARES = 0.3 ** np.arange(10)  # of what is given, down to 2e-5 of it, until nothing overflows
GREATER = 100.0  # times the weights
NEAR = 0.1  # so far at most other weights are from 0 where these are 0
SAME = 1e-4  # share by which results of the same computation differ, through rounding in float32

OF_ROWS = "Look for rows whose loss is infinite whatever is predicted."
OF_OUTPUTS = (
    "The loss is not defined of what the model predicts: let it take softplus or sigmoid of the "
    "outputs."
)

Loss = Callable[[np.ndarray], float]


def falls_without_end(guard: Guard, run: Run) -> bool:
    """Say whether the guarded loss draws outputs away for good, so that nothing holds
    the model back any more.

    Beyond the edge of its domain a guarded logarithm is constant, and what else is in the loss may
    have no minimum there.
    """
    last = run.output_activation
    bounded = last is not None and is_bounded(activation_of(last[1]))
    outputs = None if bounded else given_outputs(run)
    # Probabilities, whatever made them.
    if outputs is None or ((outputs >= 0).all() and (outputs <= 1).all()):
        return False
    if last is None and _stays(run, outputs):
        return False
    loss, plain = loss_of(run, guard), loss_of(run)
    ways = (
        [outputs]
        if (outputs >= 0).all()
        else [outputs, -outputs, np.abs(outputs), -np.abs(outputs)]
    )
    try:
        return any(has_no_bottom(loss, way) for way in ways) or _rewards_leaving(
            loss, plain, outputs
        )
    except REFUSED:
        return False


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
            given, plain, shifted = given_outputs(run), loss_of(run), loss_of(run, guard)
        else:
            given, plain, shifted = (
                take_rows(run.sample.x, rows_looked_at(run)),
                _model(run),
                _model(run, guard),
            )
        same = []
        for share in SHARES if given is not None else ():
            values = _smaller(given, share)
            result = plain(values)
            if np.isfinite(result).all():
                same.append(_same(result, shifted(values)))
    except REFUSED:
        return False
    # Beside great numbers an exponential may count for nothing; beside small ones it does.
    return bool(same) and all(same)


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


def given_outputs(run: Run) -> np.ndarray | None:
    """Return what the model gives for the first rows, alone or in a structure; None where that is
    no single tensor of a loss with a single target.
    """
    if run.user_loss is None or len(run.sample.targets) != 1:
        return None
    outputs = run.model(take_rows(run.sample.x, rows_looked_at(run)), training=False)
    first, *others = tree.flatten(outputs)
    single = tf.is_tensor(first) and not others
    return np.nan_to_num(np.asarray(first, "float32")) if single else None


def rows_looked_at(run: Run) -> slice:
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
        greater = given_outputs(run)
    finally:
        restore(before)
    return greater is not None and bool(np.abs(greater).max() <= 2 * np.abs(outputs).max())


def can_fall_below_zero(run: Run) -> list[np.ndarray]:
    """Return for each output which of its columns get below 0 with weights of other signs: an
    exponential, a softmax or a norm does not, whatever the weights.
    """
    before, random = take_as_it_is(run.model), np.random.default_rng(0)
    try:
        for weight in run.model.trainable_variables:
            signs = random.choice([-1.0, 1.0], size=weight.shape)
            weight.assign(
                signs * np.nan_to_num(np.asarray(weight)) + NEAR * random.normal(size=weight.shape)
            )
        rows = take_rows(run.sample.x, rows_looked_at(run))
        outputs = tree.flatten(run.model(rows, training=False))
    finally:
        restore(before)
    tables = [feature_table(np.asarray(output)) for output in outputs]
    return [np.asarray(np.nanmin(table, axis=0) < 0) for table in tables]


def what_to_look_for(run: Run) -> str:
    """Return where to look for what makes the loss non-finite while its gradient stays finite: in
    what the model predicts, where the loss of values above 0, or between 0 and 1, is finite.
    """
    outputs = given_outputs(run)
    if outputs is None:
        return OF_ROWS
    loss, into_domain = loss_of(run), (keras.activations.softplus, keras.activations.sigmoid)
    try:
        others = [loss(np.asarray(into(outputs), "float32")) for into in into_domain]
        of_outputs = not np.isfinite(loss(outputs)) and bool(np.isfinite(others).any())
    except REFUSED:
        return OF_ROWS
    return OF_OUTPUTS if of_outputs else OF_ROWS


def loss_of(run: Run, guard: Guard | None = None) -> Loss:
    """Return the user's loss as a function of the outputs for the first rows."""
    return loss_on(run.user_loss, run.sample.targets[0][rows_looked_at(run)], guard)


def loss_on(given: UserLoss, targets: np.ndarray, guard: Guard | None = None) -> Loss:
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


def cancels(run: Run) -> bool:
    """Say whether rounding in float32 is what makes the loss of the outputs, or their gradient,
    non-finite: in float64 both are finite.
    """
    outputs = given_outputs(run)
    if outputs is None:
        return False
    targets = run.sample.targets[0][rows_looked_at(run)]
    try:
        single, double = (
            _has_finite_gradient(in_precision(run.user_loss, dtype), targets, outputs)
            for dtype in ("float32", "float64")
        )
    except REFUSED:
        return False
    return double and not single


def _has_finite_gradient(loss: UserLoss, targets: np.ndarray, outputs: np.ndarray) -> bool:
    given, computed = tf.constant(outputs), CompileLoss(loss=loss)
    with tf.GradientTape() as tape:
        tape.watch(given)
        value: Any = computed(tf.convert_to_tensor(targets), given)
    gradient = tape.gradient(value, given)
    return gradient is not None and bool(
        np.isfinite(np.asarray(value)).all() and np.isfinite(np.asarray(gradient)).all()
    )


def falls_far_out(run: Run) -> bool:
    """Say whether the loss falls on and on as the outputs grow, or as they do the other way."""
    outputs = given_outputs(run)
    if outputs is None or not outputs.any():
        return False
    way, loss = outputs / np.abs(outputs).max(), loss_of(run)
    try:
        return has_no_bottom(loss, way) or has_no_bottom(loss, -way)
    except REFUSED:
        return False


def has_no_bottom(loss: Loss, way: np.ndarray) -> bool:
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
