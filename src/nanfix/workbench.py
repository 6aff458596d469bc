"""The one place where a setup meets the user's model: install it, train a probe with it, hand it back."""

import contextlib
import copy
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras.src.trainers.compile_utils import CompileLoss

from nanfix.checkpoint import Moment, wrapped
from nanfix.data import TrainingData, feed, take_rows
from nanfix.folding import Sites, callable_alone, difference, fold_inputs, fold_output, foldable_with
from nanfix.gate import Gate
from nanfix.guard import Hook, install, install_on_call
from nanfix.rebuild import imputation, insert_after_inputs, normalization
from nanfix.rows import filtered, kept_sample, unknown_length
from nanfix.setup import LogitsLoss, RowFilter, Setup, base_optimizer, scaled_schedule, walk
from nanfix.snapshot import Snapshot, nonfinite_variables, read, restore
from nanfix.steps import RecordingStep, loss_of, recordable

SCHEDULES = (keras.callbacks.LearningRateScheduler,)  # user callbacks without which a probe would not be the run
COMPILED = ("train_function", "test_function", "predict_function")


@dataclass(frozen=True)
class Probe:
    """What a bounded training came to: steps survived, and the held loss in the user's units (None if non-finite)."""

    steps: int
    loss: float | None
    seconds: float


class _Enough(Exception):
    """Ends a probe that has run its steps or turned non-finite."""


class Workbench:
    """Installs setups in the model, one after the other, and takes everything back on `close`.

    Functions once traced are kept for the next setup that needs the same graph: learning rate, scalings and initial
    weights are variables, so they never need a new one.
    """

    def __init__(self, model: Any, data: TrainingData, held: TrainingData, setup: Setup, sites: Sites):
        self.model = model
        self.judges = callable_alone(model) or type(model).test_step is not keras.Model.test_step
        self._data = data
        self._held = held
        self._sites = sites
        self._rows = RowFilter()
        self._gate = Gate(model, setup.sample)
        self._swapped: dict[str, tuple[Any, Snapshot]] = {}
        self._original: dict[tuple[str, int, str], tuple[Any, Any]] = {}
        self._hooks: tuple[Hook, ...] = ()
        self._functions: dict[str, dict[str, Any]] = {}
        self._graph = "the user's own"
        self._rate: Any = None

    @property
    def _optimizer(self) -> Any:
        return base_optimizer(self.model)

    def open(self) -> None:
        """Keep the user's own compiled functions aside and put the gate in place."""
        self._gate.open()
        self._switch("unchanged")

    def prepare(self, setup: Setup, start: Snapshot, seed: int = 0) -> None:
        """Make the model ready to train `setup` from `start`: state, optimizer, layers, loss, scalings, rate."""
        restore(start)
        self._put_back()
        if setup.optimizer_class is not None:
            self._swap_optimizer(setup.optimizer_class)
        for name, value in setup.optimizer.items():
            if name != "learning_rate":
                self._set("optimizer", 0, self._optimizer, name, value)
        layers = dict(walk(self.model))
        for position, attributes in setup.layers.items():
            for name, value in attributes.items():
                self._set("layer", position, layers[position], name, _resolve(name, value))
        if setup.loss is not None:
            self._install_logits(setup, setup.loss)
        self._hooks = install(self.model, setup.guards)
        for position, initializer in setup.initializers.items():
            _initialize(layers[position], initializer, seed + position)
        self._rows = setup.rows
        self._gate.fill(setup.fills)
        self._gate.set(setup.inputs, setup.targets)
        if "learning_rate" in setup.optimizer:
            self._set_rate(setup.optimizer["learning_rate"])
        self._switch(_graph_key(setup))
        if self.model.train_function is None and recordable(self.model):
            self.model.train_function = RecordingStep(self.model)  # so that the adopted training needs no new trace

    def probe(self, setup: Setup, start: Snapshot, steps: int, seed: int = 0, lost: float = math.inf) -> Probe:
        """Train `setup` from `start` for `steps` steps and judge it on held data; give up at a mean loss above `lost`."""
        begun = time.perf_counter()
        self.prepare(setup, start, seed)
        watch = _ProbeWatch(steps, lost)
        part = filtered(self._data.training_part(), setup.rows)
        arguments = {**part.fit_arguments(), "x": feed(part.x), "verbose": 0, "epochs": 1_000_000, "initial_epoch": start.epoch}
        for name in ("validation_freq", "validation_steps", "validation_batch_size"):
            arguments.pop(name, None)
        arguments["callbacks"] = [watch, *_schedules(arguments.get("callbacks")), *rate_limit(setup)]
        with contextlib.suppress(_Enough), unknown_length(setup.rows):
            self.model.fit(**arguments)
        if isinstance(self.model.train_function, RecordingStep):
            self.model.train_function.abandon()
        finite = watch.finite and not nonfinite_variables(self.model)
        loss = (self.held_loss() if self.judges else watch.loss) if finite else math.nan
        self._put_back()
        return Probe(watch.steps, loss if math.isfinite(loss) else None, time.perf_counter() - begun)

    def held_loss(self) -> float:
        """Return the loss of the prepared setup on the held data, in the user's units; NaN for a model that only trains."""
        if not self.judges:
            return math.nan
        held, arguments = filtered(self._held, self._rows), self._held.arguments or {}
        size = arguments.get("validation_batch_size") or arguments.get("batch_size")
        steps = None if held.is_arrays else arguments.get("validation_steps")
        with unknown_length(self._rows):
            logs = self.model.evaluate(
                feed(held.x), held.y, sample_weight=held.sample_weight, batch_size=size, steps=steps, verbose=0, return_dict=True
            )
        return float(logs["loss"])

    def hand_back(self, setup: Setup) -> list[str]:
        """Make the repair part of the user's object: raw inputs in, outputs in the user's units; returns what it did.

        Scalings are folded into the first and last layers where that is exact; elsewhere a stock layer is inserted, and
        so is what fills the holes of inputs.
        """
        notes: list[str] = []
        rows = take_rows(kept_sample(setup.sample, setup.rows).x, slice(0, 256))
        predict = lambda: keras.tree.flatten(self.model(rows, training=False))[0]  # noqa: E731
        foldable = {i: a for i, a in setup.inputs.items() if foldable_with(self._sites.inputs[i], a)}
        inserted = {i: a for i, a in setup.inputs.items() if i not in foldable}

        def change():
            self._close_gate(setup)
            fold_inputs(self._sites, foldable)
            if setup.targets is not None:
                fold_output(self._sites.output, setup.targets)
            if inserted:
                insert_after_inputs(self.model, {i: normalization(a) for i, a in inserted.items()})
            if setup.fills:  # in front of the scaling, which takes filled inputs
                insert_after_inputs(self.model, {i: imputation(self.model, i, fill) for i, fill in setup.fills.items()})

        if setup.inputs or setup.fills or setup.targets is not None:
            error = difference(predict, change, predict)
            ways = (
                [f"folded into layer {', '.join(layer.name for i in foldable for layer in self._sites.inputs[i].layers)}"]
                if foldable
                else []
            )
            ways += ["put into the model as a Normalization layer"] if inserted else []
            ways += [f"targets folded into layer {self._sites.output.layers[0].name}"] if setup.targets is not None else []
            done = ["Imputation put into the model, in front of its first layer"] if setup.fills else []
            done += [f"Scaling {' and '.join(ways)}"] if ways else []
            notes.append(f"{'. '.join(done)}; predictions differ by at most {error:.1e} of their largest value.")
        self._close_gate(setup)
        self._remove_logits()
        self._original.clear()  # activations, clipping and the rest stay with the model: they are the repair
        self._hooks = ()
        self._rate = None
        self._forget_functions()
        return notes

    def adapted(self, setup: Setup) -> Callable[[list[Any]], list[Any]]:
        """Return what makes of the user's callbacks those that `setup` is trained with."""
        return lambda callbacks: [*wrapped(callbacks, self.moment(setup)), *rate_limit(setup)]

    def moment(self, setup: Setup) -> Moment | None:
        """Return what makes the model, for a moment, the one it will be handed back as; None where layers will be added."""
        foldable = all(foldable_with(self._sites.inputs[i], affine) for i, affine in setup.inputs.items())
        return (lambda: self._as_handed_back(setup)) if foldable and not setup.fills else None

    @contextlib.contextmanager
    def _as_handed_back(self, setup: Setup) -> Iterator[None]:
        held = [(variable, read(variable)) for variable in self.model.variables]
        self._gate.close()
        self._remove_logits()
        fold_inputs(self._sites, setup.inputs)
        if setup.targets is not None:
            fold_output(self._sites.output, setup.targets)
        try:
            yield
        finally:
            for variable, value in held:
                variable.assign(value)
            if setup.loss is not None:
                self._install_logits(setup, setup.loss)
            self._gate.open()

    def close(self) -> None:
        """Put back everything the user's object had before, except the values of its variables."""
        self._put_back()
        self._gate.close()
        self._forget_functions()

    def _close_gate(self, setup: Setup) -> None:
        """Close the gate, which stood in the place of the model's own call, and guard that instead."""
        if self._gate.is_open:
            self._gate.close()
            install_on_call(self.model, setup.guards)

    def _forget_functions(self) -> None:
        for name in COMPILED:
            setattr(self.model, name, None)

    def _set(self, kind: str, position: int, owner: Any, name: str, value: Any) -> None:
        self._original.setdefault((kind, position, name), (owner, getattr(owner, name)))
        setattr(owner, name, value)

    def _put_back(self) -> None:
        if self._rate is not None:
            self._optimizer._learning_rate, self._rate = self._rate, None
        for (_, _, name), (owner, value) in reversed(self._original.items()):  # one attribute may have been set twice
            setattr(owner, name, value)
        self._original.clear()
        for hook in reversed(self._hooks):
            hook.remove()
        self._hooks = ()
        self._remove_logits()

    def _swap_optimizer(self, name: str) -> None:
        """Let the model train with a fresh optimizer of that class."""
        if name not in self._swapped:
            with self.model.distribute_strategy.scope():
                optimizer = getattr(keras.optimizers, name)()
                optimizer.build(self.model.trainable_variables)
            variables = tuple(optimizer.variables)
            self._swapped[name] = optimizer, Snapshot(0, 0, 0, variables, tuple(map(read, variables)))
        optimizer, fresh = self._swapped[name]
        self._original.setdefault(("model", 0, "optimizer"), (self.model, self.model.optimizer))
        self.model.optimizer = optimizer
        restore(fresh)

    def _set_rate(self, rate: float) -> None:
        current = self._optimizer._learning_rate
        if isinstance(current, keras.optimizers.schedules.LearningRateSchedule):
            self._rate = current
            now = float(np.asarray(current(self._optimizer.iterations)))
            self._optimizer._learning_rate = scaled_schedule(current, rate / now)
        else:
            self._optimizer.learning_rate = rate

    def _switch(self, graph: str) -> None:
        """Use the functions traced for `graph`, or let Keras trace new ones."""
        self._functions[self._graph] = {name: getattr(self.model, name) for name in COMPILED}
        self._graph = graph
        for name, function in self._functions.get(graph, dict.fromkeys(COMPILED)).items():
            setattr(self.model, name, function)

    def _install_logits(self, setup: Setup, wanted: LogitsLoss) -> None:
        model = self.model
        kept: dict[str, Any] = {}
        if not wanted.raw_outputs:
            _, layer = setup.activations[-1]
            activation = layer.activation
            self._original.setdefault(("logits", 0, "activation"), (layer, activation))

            def with_logits(values):
                kept["logits"] = values
                return activation(values)

            layer.activation = with_logits
        built_in = getattr(keras.losses, wanted.class_name)(from_logits=True, reduction=wanted.reduction)
        self._original.setdefault(("logits", 0, "_compile_loss"), (model, model._compile_loss))
        model._compile_loss = CompileLoss(loss=lambda y, z: wanted.factor * built_in(y, z))

        def compute_loss(x=None, y=None, y_pred=None, sample_weight=None, training=True):
            return type(model).compute_loss(
                model, x, y, keras.ops.cast(kept.get("logits", y_pred), "float32"), sample_weight, training
            )

        model.compute_loss = compute_loss

    def _remove_logits(self) -> None:
        vars(self.model).pop("compute_loss", None)
        for key in [key for key in self._original if key[0] == "logits"]:
            owner, value = self._original.pop(key)
            setattr(owner, key[2], value)


class _ProbeWatch(keras.callbacks.Callback):
    """Ends a probe at its first non-finite loss, when it has run its steps, or when it is lost.

    Lost is a probe whose mean loss stands far above that of the untrained model.
    """

    def __init__(self, limit: int, lost: float):
        super().__init__()
        self.steps, self.loss = 0, 0.0
        self.finite = True
        self._limit = limit
        self._lost = lost
        self._batch = 0

    def on_epoch_begin(self, epoch, logs=None):
        self._batch = 0

    def on_train_batch_end(self, batch, logs=None):
        self.steps += batch + 1 - self._batch
        self._batch = batch + 1
        loss = loss_of(logs)
        if loss is not None and not math.isfinite(loss):
            self.finite = False
            raise _Enough
        self.loss = 0.0 if loss is None else loss
        if self.steps >= self._limit or (batch >= 10 and self.loss > self._lost):
            raise _Enough


class RateLimit(keras.callbacks.Callback):
    """Keeps callbacks that set the learning rate from raising it above the fix's."""

    def __init__(self, limit: float):
        super().__init__()
        self._limit = limit

    def _cap(self) -> None:
        optimizer = base_optimizer(self.model)
        if float(np.asarray(optimizer.learning_rate)) > self._limit:
            optimizer.learning_rate = self._limit

    def on_epoch_begin(self, epoch, logs=None):
        self._cap()

    def on_train_batch_begin(self, batch, logs=None):
        self._cap()


def rate_limit(setup: Setup) -> list[Any]:
    """Return the callback that holds the fix's learning rate against the user's own schedule callbacks."""
    rate = setup.optimizer.get("learning_rate")
    fixed = not isinstance(base_optimizer(setup.model)._learning_rate, keras.optimizers.schedules.LearningRateSchedule)
    return [RateLimit(rate)] if rate is not None and fixed else []


def _resolve(name: str, value: Any) -> Any:
    return keras.activations.get(value) if name.endswith("activation") else value


def _initialize(layer: Any, initializer: str, seed: int) -> None:
    """Draw new kernels for a layer and set its biases to zero."""
    for name in ("kernel", "recurrent_kernel"):
        kernel = getattr(layer, name, None)
        if kernel is not None:
            chosen = "orthogonal" if name == "recurrent_kernel" else initializer
            kind: Any = type(keras.initializers.get(chosen))
            make = kind(seed=seed)
            kernel.assign(make(kernel.shape, dtype=kernel.dtype))
    if getattr(layer, "bias", None) is not None:
        layer.bias.assign(np.zeros(layer.bias.shape))


def _graph_key(setup: Setup) -> str:
    """Name what of a setup is built into the traced graph; numbers kept in variables are not."""
    optimizer = {k: v for k, v in setup.optimizer.items() if k != "learning_rate"}
    schedule = isinstance(base_optimizer(setup.model)._learning_rate, keras.optimizers.schedules.LearningRateSchedule)
    rate = setup.optimizer.get("learning_rate") if schedule else None
    changed = (
        sorted(optimizer.items()),
        sorted((p, sorted(a.items())) for p, a in setup.layers.items()),
        setup.loss,
        setup.optimizer_class,
        setup.guards,
        rate,
    )
    return repr(changed) if any(changed) else "unchanged"


def _schedules(callbacks: Any) -> list[Any]:
    flat = getattr(callbacks, "callbacks", callbacks) or []
    copies = [copy.copy(callback) for callback in keras.tree.flatten(flat) if isinstance(callback, SCHEDULES)]
    for callback in copies:
        callback.verbose = 0
    return copies
