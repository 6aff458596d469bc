"""What would have happened otherwise: a few steps run again with one thing changed, which is what settles a cause."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import tree

from nanfix.changes.maps import Affine
from nanfix.changes.optimizer_installer import forget
from nanfix.data.arrays import is_dense, repacked, rows_in, take_rows, unpacked
from nanfix.data.datasets import batch_size_of, batches_of
from nanfix.data.training_data import TrainingData
from nanfix.explain.audit import Audit
from nanfix.explain.loss_probe import relative_exponents
from nanfix.explain.oddities import FEW, bands, outlying_share
from nanfix.explain.replay import Replay
from nanfix.model.activations import activation_name, change_activation
from nanfix.model.optimizers import trained_optimizers
from nanfix.model.randomness import preserved_randomness
from nanfix.model.run import Run, linear_throughout, unbounded_recurrences, walk
from nanfix.model.schedules import ScaledSchedule
from nanfix.model.snapshot import Snapshot, nonfinite_variables, restore
from nanfix.model.training_step import RecordingStep, loss_of
from nanfix.model.undo import put
from nanfix.private.objects import DTYPE_POLICY, LEARNING_RATE, all_layers, learning_rate_of
from nanfix.recorder.recording import RecordedStep, Recording
from nanfix.records.unsafe_operations import takes_differences

FACTORS = (0.1, 0.01, 1e-3, 1e-5, 1e-7)  # of the learning rate
MOST_STEPS = 200  # a run whose failure lies further from its beginning is not run again from there
OTHERS = 8  # other batches that the failing state is tried on
USUAL = 10.0  # robust standard deviations from the median, outliers are drawn in to
JUDGED = 5  # last batches, on which the loss is compared with what it was on the same ones before these steps
NOISE = 0.05  # share of the loss, by which dropout and the like may raise it

Change = Callable[[Any], Any]


@dataclass(frozen=True)
class Rerun:
    """Steps that were run again with one change: how many of those planned stayed finite.

    `before` and `after` are the mean loss on the last few batches, with the weights at the start and in these last steps.
    """

    change: str
    steps: int
    planned: int
    before: float = math.nan
    after: float = math.nan

    @property
    def finite(self) -> bool:
        return self.steps == self.planned

    @property
    def cured(self) -> bool:
        """Whether every step stayed finite and the loss did not rise."""
        return self.finite and self.after <= self.before + NOISE * abs(self.before)

    @property
    def learned(self) -> bool:
        """Whether every step stayed finite and the loss fell."""
        return self.finite and self.after < self.before - NOISE * abs(self.before)

    def __str__(self):
        if not self.finite:
            return f"{self.change}, it fails at step {self.steps + 1}"
        course = f"the loss goes from {self.before:.3g} to {self.after:.3g}"
        return f"{self.change}, the same {self.planned} steps stay finite and {course}"


@dataclass(frozen=True)
class Counterfactuals:
    """What the failing steps came to with one thing changed; None where it was not tried.

    From the beginning of the run, or, for `rate` alone, from the newest snapshot: `rate` is the mildest learning rate
    with which the run learns, or at least stays finite, else the lowest tried; `no_update` says whether weights left alone
    stay finite; `drawn_in` has outlying values moved to where values are usual, `forgotten` an optimizer that remembers no
    earlier training. At the failing step: the same batch on the `initial` weights; how many of the `others` tried fail on
    the failing weights; the batch without its suspicious rows (`clean`); in `full_precision`. `relative` says whether only
    the differences of the exponents that overflowed matter.
    """

    unchanged: Rerun | None = None
    rate: Rerun | None = None
    inputs: Rerun | None = None
    targets: Rerun | None = None
    scaled: Rerun | None = None
    weights: Rerun | None = None
    drawn_in: Rerun | None = None
    forgotten: Rerun | None = None
    activation: Rerun | None = None
    no_update: bool | None = None
    initial: bool | None = None
    others: tuple[int, int] | None = None
    clean: bool | None = None
    full_precision: bool | None = None
    relative: bool = False

    def __str__(self):
        told = []
        if self.initial is not None:
            told.append(f"on the initial weights the same batch {'stays finite' if self.initial else 'fails too'}")
        if self.no_update is not None:
            told.append(f"with a learning rate of 0 the steps {'stay finite' if self.no_update else 'fail all the same'}")
        if self.others is not None and self.others[1]:
            told.append(f"{self.others[0]} of {self.others[1]} other batches fail at this state")
        if self.clean is not None:
            told.append(f"without the rows named it {'stays finite' if self.clean else 'fails all the same'}")
        if self.full_precision is not None:
            told.append(f"in float32 it {'stays finite' if self.full_precision else 'fails too'}")
        if self.relative:
            told.append("the largest exponent taken off first changes nothing else")
        return "; ".join(told)


def try_otherwise(
    model: Any, data: TrainingData, run: Run, recording: Recording, seen: Replay, audit: Audit, *, wide: bool, seconds: float
) -> Counterfactuals:
    """Run the failing steps again, each time with one thing changed.

    The model is left in the state of the newest snapshot, random states as they were. Nothing is tried once `seconds`
    are over.

    Args:
        wide: whether the initial weights are suspected of being too large.
    """
    nothing_failed = seen.onset is None or seen.before is None or seen.batch is None
    if recording.step_of_keras is None or nothing_failed or audit.hopeless:
        return Counterfactuals()
    with preserved_randomness():
        bench = _Bench(model, recording, time.perf_counter() + seconds)
        try:
            return replace(_at_the_step(bench, data, run, seen, audit), **_from_the_beginning(bench, data, run, audit, wide))
        finally:
            restore(recording.newest)


class _Bench:
    """Runs steps of Keras from a snapshot, with the compiled step of the recording or one traced anew."""

    def __init__(self, model: Any, recording: Recording, deadline: float):
        self.model, self.recording = model, recording
        self._step, self._deadline = recording.step_of_keras, deadline
        self._optimizers = trained_optimizers(model)
        self._share = keras.Variable(1.0, trainable=False, dtype="float32", name="share")  # of the rates of schedules

    @property
    def open(self) -> bool:
        return time.perf_counter() < self._deadline

    def rerun(
        self,
        told: str,
        start: Snapshot,
        steps: list[RecordedStep],
        change: Change | None = None,
        *,
        rate: float = 1.0,
        prepare: Callable[[], None] | None = None,
    ) -> Rerun | None:
        """Run the steps from `start` and say what came of it; None when there is no time left."""

        def loss_at(step: RecordedStep) -> float:
            return self.loss_of(step.batch if change is None else change(step.batch))

        if not self.open:
            return None
        self._begin(start, rate, prepare)
        variables, losses = {id(variable) for variable in self._rates()}, []
        for step in steps:
            if not self.open:
                return None
            for variable, value in step.rates:
                variable.assign(value * rate if id(variable) in variables else value)
            loss = loss_at(step)
            if not math.isfinite(loss):
                return Rerun(told, len(losses), len(steps))
            losses.append(loss)
        if nonfinite_variables(self.model):
            return Rerun(told, len(losses) - 1, len(steps))
        before = []
        for step in steps[-JUDGED:]:
            self._begin(start, rate, prepare)
            before.append(loss_at(step))
        return Rerun(told, len(losses), len(steps), float(np.mean(before)), float(np.mean(losses[-JUDGED:])))

    def _begin(self, start: Snapshot, rate: float, prepare: Callable[[], None] | None) -> None:
        restore(start)
        if prepare is not None:
            prepare()
        self._share.assign(rate)
        if rate != 1.0:
            for variable in self._rates():
                variable.assign(np.asarray(variable) * rate)

    def _rates(self) -> list[Any]:
        """Return the variables that hold the learning rates which no schedule sets."""
        rates = (learning_rate_of(optimizer) for optimizer in self._optimizers)
        return [rate for rate in rates if isinstance(rate, keras.Variable)]

    def loss_of(self, batch: Any) -> float:
        """Run one step and return its own loss, NaN when TensorFlow refuses the batch."""
        assert self._step is not None
        self.model.reset_metrics()
        try:
            logs = self._step.replay(batch)
        except tf.errors.InvalidArgumentError:
            return math.nan
        loss = loss_of(logs)
        return 0.0 if loss is None else loss

    def stays_finite(self, start: Snapshot, batch: Any) -> bool:
        restore(start)
        return math.isfinite(self.loss_of(batch)) and not nonfinite_variables(self.model)

    @contextmanager
    def with_scalable_rates(self) -> Iterator[None]:
        """Let schedules, which are built into the graph, be multiplied by the rate of a rerun as numbers are."""
        scheduled = [optimizer for optimizer in self._optimizers if not isinstance(learning_rate_of(optimizer), keras.Variable)]
        with ExitStack() as during:
            for optimizer in scheduled:
                put(during, optimizer, LEARNING_RATE, ScaledSchedule(learning_rate_of(optimizer), self._share))
            if scheduled:
                during.enter_context(self.traced_anew())
            yield

    @contextmanager
    def traced_anew(self) -> Iterator[None]:
        """Trace a step of its own for what is built into the graph."""
        kept, self._step = self._step, RecordingStep(self.model)
        try:
            yield
        finally:
            self._step = kept


def _at_the_step(bench: _Bench, data: TrainingData, run: Run, seen: Replay, audit: Audit) -> Counterfactuals:
    """Change the weights, the batch, its rows, its precision at the failing step."""
    before = seen.before
    assert before is not None
    recording, part = bench.recording, data.training_part()
    drawn = [step.batch for step in recording.steps if step.at != seen.onset][-OTHERS:]
    drawn += _more(part, OTHERS - len(drawn)) if part.is_arrays else []
    failing = next(step for step in recording.steps if step.at == seen.onset)
    clean = None
    if audit.rows and audit.rows_of == "the batch" and seen.batch is not None:
        kept = [row for row in range(rows_in(seen.batch) or 0) if row not in set(audit.rows)]
        clean = bench.stays_finite(before, take_rows(seen.batch, kept)) if kept else None
    return Counterfactuals(
        initial=bench.stays_finite(recording.initial, failing.batch),
        others=(sum(not bench.stays_finite(before, batch) for batch in drawn), len(drawn)),
        clean=clean,
        full_precision=_in_full_precision(bench, seen),
        relative=_only_relative(bench, seen, run),
    )


def _only_relative(bench: _Bench, seen: Replay, run: Run) -> bool:
    if seen.failing is None or not takes_differences(seen.failing.operation):
        return False
    restore(bench.recording.newest)
    return relative_exponents(seen.failing.place, run)


def _in_full_precision(bench: _Bench, seen: Replay) -> bool | None:
    """Run the failing step with every layer in float32, where half precision is suspected and variables are float32."""
    if (
        seen.before is None
        or seen.failing is None
        or not seen.failing.half
        or any(v.dtype != "float32" for v in bench.model.trainable_variables)
    ):
        return None
    with ExitStack() as during:
        for layer in all_layers(bench.model):
            put(during, layer, DTYPE_POLICY, keras.DTypePolicy("float32"))
        with bench.traced_anew():
            return bench.stays_finite(seen.before, seen.batch)


def _from_the_beginning(bench: _Bench, data: TrainingData, run: Run, audit: Audit, wide: bool) -> dict[str, Any]:
    """Run the steps up to the failure and as many after it, with one cause taken away at a time."""
    recording = bench.recording
    total = recording.newest.total + len(recording.steps)
    start, steps = recording.initial, _steps_from_the_beginning(data, recording, max(2 * total, total + 10, 30))
    unchanged = bench.rerun("unchanged", start, steps) if total <= MOST_STEPS else None
    if unchanged is None or unchanged.finite:  # the run is too long, or the batches drawn anew do not make it fail
        start, steps = recording.newest, list(recording.steps)
        unchanged = bench.rerun("unchanged", start, steps)
        fails = unchanged is not None and not unchanged.finite
        with bench.with_scalable_rates():
            return {"unchanged": unchanged, "rate": _lower_rate(bench, start, steps)} if fails else {}
    found: dict[str, Any] = {"unchanged": unchanged}
    suspects, activation = _suspect_activations(run)
    if suspects and bench.open:
        told = f"with {activation} in the place of {activation_name(suspects[0])}"
        with _activated(suspects, activation), bench.traced_anew():
            found["activation"] = bench.rerun(told, start, steps)
    if wide:
        told = "with initial weights of the usual size"
        found["weights"] = bench.rerun(told, start, steps, prepare=lambda: _initialize_anew(run))
    if _remembers(recording):
        found["forgotten"] = bench.rerun("with a new optimizer", start, steps, prepare=lambda: forget(bench.model))
    outlying = outlying_share(run.sample)
    if 0.0 < outlying <= FEW:
        usual = bands(run.sample, USUAL)
        told = f"with the values of {outlying:.1%} of the rows drawn in"
        found["drawn_in"] = bench.rerun(told, start, steps, lambda b: _drawn_in(b, usual))
    inputs = _standardized(run) if run.sample.measured else None
    targets = _standardized_targets(run) if audit.continuous_target else None
    if inputs is not None:
        found["inputs"] = bench.rerun("with inputs of unit scale", start, steps, lambda b: _changed(b, inputs, None))
    if targets is not None:
        found["targets"] = bench.rerun("with targets of unit scale", start, steps, lambda b: _changed(b, None, targets))
    if inputs is not None and targets is not None:
        told = "with inputs and targets of unit scale"
        found["scaled"] = bench.rerun(told, start, steps, lambda b: _changed(b, inputs, targets))
    with bench.with_scalable_rates():
        return {**found, "rate": _lower_rate(bench, start, steps), "no_update": _without_update(bench, start, steps)}


def _remembers(recording: Recording) -> bool:
    """Say whether the optimizer had taken steps before the run began."""
    held = zip(recording.initial.variables, recording.initial.tensors, strict=True)
    return any(np.asarray(tensor) > 0 for variable, tensor in held if variable.name == "iteration")


def _drawn_in(batch: Any, usual: tuple[tuple[int, Affine], ...]) -> Any:
    """Return a batch whose values lie in the band that is usual for their feature."""
    x, y, weight = unpacked(batch)
    leaves, count = [*tree.flatten(x), *tree.flatten(y)], len(tree.flatten(x))
    for index, band in usual:
        leaf = leaves[index]
        if is_dense(leaf):
            low, high = np.subtract(band.center, band.scale), np.add(band.center, band.scale)
            leaves[index] = tf.clip_by_value(leaf, tf.cast(low, leaf.dtype), tf.cast(high, leaf.dtype))
    return repacked(batch, tree.pack_sequence_as(x, leaves[:count]), tree.pack_sequence_as(y, leaves[count:]), weight)


def _steps_from_the_beginning(data: TrainingData, recording: Recording, count: int) -> list[RecordedStep]:
    """Return the steps of the run as far as they are recorded, then more of the user's batches, or the same again."""
    known = list(recording.steps)
    if recording.newest.total:
        known.insert(0, RecordedStep(known[0].at, recording.first_batch))
    part = data.training_part()
    if part.is_arrays:
        known += [RecordedStep(known[0].at, batch) for batch in _more(part, count - len(known))]
    return [known[index % len(known)] for index in range(count)]


def _more(part: TrainingData, count: int) -> list[Any]:
    """Return batches of the user's arrays, rows drawn with a seed of their own."""
    if count <= 0:
        return []
    rows = rows_in(part.x) or 0
    size = min(batch_size_of(part), rows)
    order = np.random.default_rng(0).permutation(rows)
    return batches_of(part, np.take(order, range(count * size), mode="wrap"), size)


def _lower_rate(bench: _Bench, start: Snapshot, steps: list[RecordedStep]) -> Rerun | None:
    """Run with lower and lower learning rates until one cures."""
    tried: list[Rerun] = []
    for factor in FACTORS:
        rerun = bench.rerun(f"with {factor:g} times the learning rate", start, steps, rate=factor)
        if rerun is None:
            break
        tried.append(rerun)
        if rerun.learned:
            return rerun
    return next((rerun for rerun in tried if rerun.cured), tried[-1] if tried else None)


def _without_update(bench: _Bench, start: Snapshot, steps: list[RecordedStep]) -> bool | None:
    """Say whether the steps stay finite when the weights are left as they are."""
    still = bench.rerun("without any update", start, steps, rate=0.0)
    return still.finite if still is not None else None


def _standardized(run: Run) -> list[tuple[Any, Any] | None]:
    """Return mean and standard deviation of each feature of the inputs that are quantities."""
    measured = {id(array) for array in run.sample.measured}
    axes = [tuple(range(max(array.ndim - 1, 1))) for array in run.sample.inputs]
    given = zip(run.sample.inputs, axes, strict=True)
    return [_moments(array, axis) if id(array) in measured else None for array, axis in given]


def _standardized_targets(run: Run) -> tuple[Any, Any]:
    return _moments(run.sample.targets[0], axis=None)


def _moments(array: np.ndarray, axis: Any) -> tuple[Any, Any]:
    """Return mean and standard deviation of the finite cells; 1 for a deviation of 0."""
    seen = np.isfinite(array)
    count = np.maximum(seen.sum(axis=axis), 1)
    center = np.where(seen, array, 0.0).sum(axis=axis, dtype="float64") / count
    scale = np.sqrt((np.where(seen, array - center, 0.0) ** 2).sum(axis=axis, dtype="float64") / count)
    return center, np.where(scale > 0.0, scale, 1.0)


def _changed(batch: Any, inputs: list[tuple[Any, Any] | None] | None, targets: tuple[Any, Any] | None) -> Any:
    """Return a batch with its inputs or its targets brought to unit scale."""
    x, y, weight = unpacked(batch)
    if inputs is not None:
        leaves = [_scaled(leaf, moments) for leaf, moments in zip(tree.flatten(x), inputs, strict=True)]
        x = tree.pack_sequence_as(x, leaves)
    if targets is not None:
        y = tree.map_structure(lambda leaf: _scaled(leaf, targets), y)
    return repacked(batch, x, y, weight)


def _scaled(leaf: Any, moments: tuple[Any, Any] | None) -> Any:
    if moments is None or leaf is None:
        return leaf
    if isinstance(leaf, tf.distribute.DistributedValues):
        return type(leaf)([_scaled(part, moments) for part in leaf.values])
    values = (tf.cast(leaf, tf.float32) - np.float32(moments[0])) / np.float32(moments[1])
    return tf.cast(values, leaf.dtype) if leaf.dtype.is_floating else values


def _initialize_anew(run: Run) -> None:
    """Draw every kernel with He's variance, which suits rectifiers and is less than twice what others want."""
    for position, (_, layer) in enumerate(walk(run.model)):
        if getattr(layer, "kernel", None) is not None:
            layer.kernel.assign(keras.initializers.HeNormal(seed=position)(layer.kernel.shape, dtype=layer.kernel.dtype))
        if getattr(layer, "recurrent_kernel", None) is not None:
            shape = layer.recurrent_kernel.shape
            layer.recurrent_kernel.assign(keras.initializers.Orthogonal(seed=position)(shape, dtype=layer.recurrent_kernel.dtype))


def _suspect_activations(run: Run) -> tuple[list[Any], str]:
    """Return the layers whose activation is a cause in itself, and what they should have.

    Unbounded in a recurrence; or none in any hidden layer, nor in the last one where the targets lie between 0 and 1.
    """
    recurrent = unbounded_recurrences(run)
    if recurrent:
        return recurrent, "tanh"
    linear = linear_throughout(run)
    shares = all(array.size and np.nanmin(array) >= 0 and np.nanmax(array) <= 1 for array in run.sample.targets)
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
