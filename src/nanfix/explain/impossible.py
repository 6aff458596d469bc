"""Whether a loss is finite for any prediction at all, with the targets as they are."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from nanfix.changes.guards import Guard
from nanfix.data.arrays import take_rows
from nanfix.explain.loss_probe import given_outputs, loss_of
from nanfix.explain.microscope import Observation
from nanfix.model.activations import activation_of
from nanfix.model.refusals import REFUSED
from nanfix.model.run import Run
from nanfix.records.diagnosis import Phase, Place
from nanfix.records.unsafe_operations import LOG_OF_EXPONENTIALS

TARGETS = 8  # rows whose targets are tried with all predictions
PART = 512  # predictions at a time: a loss may compare each with each
ASKED = 12  # of them, of a loss that has to be asked for each alone
SECONDS = 4.0  # of CPU time for predictions, whatever else runs; a slower loss is not judged
MOST_OUTPUTS = 256  # of a row; of more, no share that counts could be tried
DRAWN = 400  # predictions of each kind that are drawn
SIZES = 10.0 ** np.arange(-6, 9)  # of constants and distances from the targets
LINE = np.linspace(-100.0, 100.0, 4001)  # constants, close enough for a narrow density
SPREADS = (0.1, 1.0, 10.0, 100.0, 1e4)


def hopeless_training(run: Run, failing: Observation) -> str | None:
    """Return why no training can make this loss finite, None where one may: the model has nothing
    to train, or no prediction within its reach has a finite loss.

    A prediction is any output of the last layer's activation, any number where that is not known.
    """
    if run.has_stock_step and not run.model.trainable_variables:
        return "the model has no weight that is trained, so no training can change its loss"
    constant = failing.place.constant
    if constant is not None:
        named = f"`{constant.name}`" if constant.name else f"at {failing.place.source}"
        reason = f"the constant {named} has no finite number to take the place of the others"
        return None if constant.instead else reason
    # Where nothing was located, the loss may add NaN that was there from the beginning.
    if failing.phase not in (Phase.LOSS, Phase.UNKNOWN) or failing.layer is not None:
        return None
    try:
        tried = 0 if failing.error else _tried_in_vain(run)
    except REFUSED:
        return None
    place = failing.place
    if not tried or _is_finite_in_stable_form(run, place):
        return None
    where = f" for {place.operation}" if place.operation else ""
    where += f" at {place.source}" if place.source else ""
    return (
        f"no prediction makes the loss finite{where}: with the targets as they are it was NaN or "
        f"inf for each of {tried} predictions; the loss itself has to change, its formula or a "
        "constant in it, and only its author can say what was meant"
    )


def _tried_in_vain(run: Run) -> int:
    """Return for how many predictions the loss is not finite, if it is so for all that are tried in
    every row; else 0, and where there was no time to try them.
    """
    if run.user_loss is None or not run.has_stock_objective or len(run.sample.targets) != 1:
        return 0
    shape = np.shape(run.model(take_rows(run.sample.x, slice(0, 1)), training=False))[1:]
    width = int(np.prod(shape))
    targets = _distinct(run.sample.targets[0])
    if not len(targets) or not 0 < width <= MOST_OUTPUTS:
        return 0
    probe = _Probe(run, shape, targets)
    if probe.is_finite_for_several(width):
        return 0
    tried = 0
    for row in np.unique(np.linspace(0, len(targets) - 1, TARGETS).astype(int)):
        predictions = _predictions(targets[row], width)
        if probe.is_finite_for_one(targets[row : row + 1], predictions):
            return 0
        tried += len(predictions)
    return 0 if probe.reads_weights else tried


def _is_finite_in_stable_form(run: Run, place: Place) -> bool:
    """Say whether the loss of what the model gives is finite once its logarithms are computed in
    their stable form: 0 * log(0) as 0, say.
    """
    outputs = None if place.source is None else given_outputs(run)
    if outputs is None:
        return False
    guard = Guard(LOG_OF_EXPONENTIALS, place.source, None, 0.0, place.code)
    try:
        return bool(np.isfinite(loss_of(run, guard)(outputs)))
    except REFUSED:
        return False


class _Probe:
    """The user's loss as a function of targets and predictions, asked in small parts."""

    def __init__(self, run: Run, shape: tuple[int, ...], targets: np.ndarray):
        loss: Any = keras.losses.get(run.user_loss)
        self._loss = getattr(loss, "call", loss)
        self._shape, self._targets = shape, targets
        self._activation = _ending(run, shape)
        self._deadline = time.process_time() + SECONDS
        self.reads_weights = False

    def is_finite_for_several(self, width: int) -> bool:
        """Say whether any row, or all of them together, has a finite loss."""
        rows = self._targets
        return any(np.isfinite(self._values(rows, p)).any() for p in _each_alike(rows, width))

    def is_finite_for_one(self, target: np.ndarray, predictions: np.ndarray) -> bool:
        """Say whether the loss of a row is finite for any prediction, or there is no more time."""
        for start in range(0, len(predictions), PART):
            part = predictions[start : start + PART]
            if time.process_time() > self._deadline:
                return True
            found = self._values(np.repeat(target, len(part), axis=0), part)
            if found.ndim and len(found) == len(part):
                if np.isfinite(found.reshape(len(found), -1)).any():
                    return True
            else:  # it is one number for all rows: each is asked for alone
                asked = part[:: max(len(part) // ASKED, 1)]
                if any(np.isfinite(self._values(target, p[None])).all() for p in asked):
                    return True
        return False

    def _values(self, targets: np.ndarray, flat: np.ndarray) -> np.ndarray:
        """Return the loss of predictions, as they are and as the activation makes them if one is
        known.
        """
        outputs = flat.astype("float32").reshape(len(flat), *self._shape)
        given: Any = tf.constant(outputs)
        given = given if self._activation is None else self._activation(given)
        if targets.ndim == len(given.shape) - 1 and given.shape[-1] == 1:  # as Keras does
            targets = targets[..., None]
        with tf.GradientTape() as tape:
            found = self._loss(tf.constant(targets), given)
        self.reads_weights = self.reads_weights or bool(tape.watched_variables())
        return np.asarray(found, "float64")


def _distinct(targets: np.ndarray) -> np.ndarray:
    """Return the finite targets, each value once."""
    kept = np.isfinite(targets.astype("float64").reshape(len(targets), -1)).all(axis=1)
    targets = targets.astype("float32") if targets.dtype.kind == "f" else targets
    return np.unique(targets[kept], axis=0)


def _ending(run: Run, shape: tuple[int, ...]) -> Callable[[Any], Any] | None:
    """Return the activation that gives outputs of this very shape; None where that is not known."""
    if run.outputs is None or run.output_activation is None:
        return None
    last = run.output_activation[1]
    made: Any = getattr(last, "output", None)
    known = made is not None and tuple(made.shape[1:]) == tuple(shape)
    return activation_of(last) if known else None


def _each_alike(targets: np.ndarray, width: int) -> Iterator[np.ndarray]:
    """Yield predictions for several rows at once, for a loss that compares rows."""
    rng, rows = np.random.default_rng(0), len(targets)
    for spread in SPREADS:
        drawn = spread * rng.normal(size=(rows, width))
        yield from (drawn, np.abs(drawn), -np.abs(drawn), np.sort(drawn, axis=1))
        yield np.sort(drawn, axis=1)[:, ::-1]
    if targets.reshape(rows, -1).shape[1] == width:
        yield targets.reshape(rows, -1)


def _predictions(target: np.ndarray, width: int) -> np.ndarray:
    """Return predictions for a row, shape (count, width): constants, numbers of all sizes, of one
    sign, in order, in shares, a unit matrix, and what lies near the target.
    """
    rng = np.random.default_rng(0)
    sizes = np.concatenate([SIZES, -SIZES, [0.0]])
    line = LINE if width <= 8 else LINE[:: width // 8 + 1]
    found = [np.outer(np.concatenate([sizes, line]), np.ones(width))]
    for spread in SPREADS:
        drawn = spread * rng.normal(size=(DRAWN, width))
        found += [
            drawn,
            np.abs(drawn),
            -np.abs(drawn),
            np.sort(drawn, 1),
            np.sort(drawn, 1)[:, ::-1],
        ]
        # Some outputs of another sign and size than the others.
        found.append(drawn * 10.0 ** rng.integers(-4, 5, size=(DRAWN, width)))
    shares = rng.dirichlet(np.ones(width), DRAWN)
    found += [shares, rng.uniform(size=(DRAWN, width))]
    side = round(width**0.5)
    if side * side == width:
        found.append(np.outer(np.abs(sizes), np.eye(side).reshape(-1)))
    near = np.ravel(target).astype("float64")
    if near.size in (1, width):
        near = np.broadcast_to(near, width)
        found += [near[None], near + np.outer(sizes, np.ones(width)), np.outer(sizes, near)]
        found.append(
            near + rng.normal(size=(DRAWN, width)) * 10.0 ** rng.integers(-4, 3, (DRAWN, 1))
        )
    return np.concatenate(found)
