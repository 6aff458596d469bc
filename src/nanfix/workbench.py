"""The one place where a setup meets the user's model: install it, train a probe with it, hand it back."""

import contextlib
import copy
import functools
import math
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np

from nanfix.activations import change_activation
from nanfix.adapted import adapt_to, statistics
from nanfix.arrays import take_rows
from nanfix.changes import Guard, Power, RowFilter
from nanfix.checkpoint import Moment, wrapped
from nanfix.data import TrainingData
from nanfix.describing import OTHERWISE
from nanfix.feeding import judged_on, trained_on, untuned
from nanfix.folding import Sites, callable_alone, difference, fold_inputs, fold_output, foldable_with
from nanfix.gate import Gate
from nanfix.guard import Matches, install, install_on_call
from nanfix.objective import install_objective
from nanfix.optimizing import NUMBERS, Optimizing
from nanfix.quiet import quiet
from nanfix.rates import with_rates
from nanfix.rebuild import can_rebuild, imputation, insert_after_inputs, insert_before, layer_normalization, scaling
from nanfix.rows import filtered, judged, kept_sample, unknown_length
from nanfix.setup import Setup, has_schedule, walk
from nanfix.snapshot import Snapshot, nonfinite_variables, read, restore
from nanfix.steps import RecordingStep, is_running_mean, loss_of, named_loss, recordable
from nanfix.undo import override, put

SCHEDULES = (keras.callbacks.LearningRateScheduler,)  # user callbacks without which a probe would not be the run
KERNELS = ("kernel", "recurrent_kernel")
GRAPHS = 4  # as many traced graphs are kept; a search comes back to the latest few
SEEDS = "seed_generator_state"  # of dropout and the like
NO_MATCH = "The guard of {operation} at {place} did nothing: no such operation was met there, as when the code has changed."
LAST = 16  # losses of single steps, of which the mean is taken
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
        self.judges = _can_evaluate(model, sites)
        self._data = data
        self._held = held
        self._sites = sites
        self._unchanged = setup
        self._rows = RowFilter()
        self._gate = Gate(model, setup.sample)
        self._optimizing = Optimizing(model)
        self._changes = contextlib.ExitStack()  # they are the repair, and stay with the model that is handed back
        self._temporary = contextlib.ExitStack()  # of use in training alone, or replaced by layers
        self._functions: dict[str, dict[str, Any]] = {}
        self._graph = "the user's own"
        self._matches: Matches = Counter()
        self._feeds: dict[tuple[RowFilter, int], TrainingData] = {}
        self._held_feeds: dict[RowFilter, TrainingData] = {}

    def open(self) -> None:
        """Keep the user's own compiled functions aside and put the gate in place."""
        self._gate.open()
        self._switch(_graph_key(self._unchanged, set()))

    def prepare(self, setup: Setup, start: Snapshot, seed: int = 0, *, trying: bool = False) -> None:
        """Make the model ready to train `setup` from `start`: state, optimizer, layers, loss, scalings, rate.

        What is only tried costs as few new traces as possible, but its optimizer is nothing to be saved.
        """
        restore(start)
        self._put_back()
        self._optimizing.install(setup, self._changes, trying=trying)
        layers = dict(walk(self.model))
        for position, attributes in setup.layers.items():
            for name, value in attributes.items():
                _change_layer(layers[position], name, value, self._changes)
        install(self.model, setup.guards, self._changes, self._matches)
        self._install_temporary(setup)
        for position, initializer in setup.initializers.items():
            _initialize(layers[position], initializer, seed + position)
        self._rows = setup.rows
        self._gate.fill(setup.fills)
        self._gate.set(setup.inputs, setup.targets)
        variable = self._optimizing.in_variables(setup)
        self._switch(_graph_key(setup, variable if trying else variable - {*NUMBERS, "rate_share"}))
        if self.model.train_function is None and recordable(self.model):
            self.model.train_function = RecordingStep(self.model)  # so that the adopted training needs no new trace

    def probe(
        self, setup: Setup, start: Snapshot, steps: int, seed: int = 0, *, variation: int = 0, lost: float = math.inf
    ) -> Probe:
        """Train `setup` from `start` for `steps` steps and judge it on held data; give up at a mean loss above `lost`.

        A `variation` other than 0 changes what chance decides: weights that the setup draws, masks of dropout, and the
        composition of the batches where the user lets them be shuffled.
        """
        begun = time.perf_counter()
        self.prepare(setup, start, seed + variation, trying=True)
        watch = _ProbeWatch(steps, lost)
        if variation:
            self._vary_masks(variation)
        part = self._fed(setup.rows, variation)
        arguments = {**untuned(part.fit_arguments()), "verbose": 0, "epochs": self._most_epochs, "initial_epoch": start.epoch}
        for name in ("validation_freq", "validation_steps", "validation_batch_size"):
            arguments.pop(name, None)
        arguments["callbacks"] = [watch, *with_rates(schedules(arguments.get("callbacks")), setup)]
        with contextlib.suppress(_Enough), unknown_length(setup.rows):
            self.model.fit(**arguments)
        if isinstance(self.model.train_function, RecordingStep):
            self.model.train_function.abandon()
        finite = watch.finite and not nonfinite_variables(self.model)
        loss = self.held_loss() if finite else math.nan
        loss = loss if self.judges or not finite else watch.loss
        self._put_back()
        return Probe(watch.steps, loss if math.isfinite(loss) else None, time.perf_counter() - begun)

    def _fed(self, rows: RowFilter, variation: int) -> TrainingData:
        """Return what a probe is trained on; built once for the probes that leave out the same rows."""
        if (rows, variation) not in self._feeds:
            part = filtered(self._data.training_part(), rows)
            others = {key: fed for key, fed in self._feeds.items() if key[0] == rows}  # a proof goes to and fro between its seeds
            self._feeds = {**others, (rows, variation): trained_on(part.shuffled(variation) if variation else part)}
        return self._feeds[rows, variation]

    @property
    def _most_epochs(self) -> int:
        """The epochs that a probe may have: as many as its steps take; of a generator that ends no more than the user wants."""
        ends = self._data.one_shot and not (self._data.arguments or {}).get("steps_per_epoch")
        return self._data.epochs if ends else 1_000_000

    def _vary_masks(self, variation: int) -> None:
        for variable in self.model.non_trainable_variables:
            if variable.name == SEEDS:
                variable.assign(variable + variation)

    def held_loss(self) -> float:
        """Return the loss of the prepared setup on the held data, in the user's units; NaN for a model that only trains."""
        return self.loss_on(self._held)

    def loss_on(self, data: TrainingData) -> float:
        """Return the loss of the prepared setup on these data; NaN for a model that only trains, or whose figures name none."""
        loss = named_loss(self.figures_on(data)) if self.judges else None
        self.judges = self.judges and loss is not None
        return math.nan if loss is None else loss

    def figures_on(self, data: TrainingData) -> dict[str, float]:
        """Return loss and metrics of the prepared setup on these data, in the user's units."""
        arguments = data.arguments or {}
        held = self._judged_on(data, arguments.get("validation_batch_size") or arguments.get("batch_size"))
        steps = None if data.is_arrays else arguments.get("validation_steps")
        with unknown_length(self._rows):
            logs = self.model.evaluate(held.x, held.y, sample_weight=held.sample_weight, steps=steps, verbose=0, return_dict=True)
        return {name: float(figure) for name, figure in logs.items()}

    def _judged_on(self, data: TrainingData, batch_size: int | None) -> TrainingData:
        if data is not self._held:
            return judged_on(judged(data, self._rows), batch_size)
        if self._rows not in self._held_feeds:
            self._held_feeds = {self._rows: judged_on(judged(data, self._rows), batch_size)}
        return self._held_feeds[self._rows]

    @quiet()
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
        layers = dict(walk(self.model))

        def change():
            self._close_gate(setup)
            fold_inputs(self._sites, foldable)
            if setup.targets is not None:
                fold_output(self._sites.output, setup.targets)
            if inserted:
                insert_after_inputs(self.model, {i: scaling(self.model, i, a) for i, a in inserted.items()})
            if setup.normalized:
                self._temporary.close()
                insert_before(self.model, {layers[position]: layer_normalization for position in setup.normalized})
            if setup.fills:  # in front of the scaling, which takes filled inputs
                insert_after_inputs(self.model, {i: imputation(self.model, i, fill) for i, fill in setup.fills.items()})

        if setup.inputs or setup.fills or setup.normalized or setup.targets is not None:
            error = difference(predict, change, predict)
            ways = (
                [f"folded into layer {', '.join(layer.name for i in foldable for layer in self._sites.inputs[i].layers)}"]
                if foldable
                else []
            )
            kind = "layers of its own" if any(isinstance(a, Power) for a in inserted.values()) else "a Normalization layer"
            ways += [f"put into the model as {kind}"] if inserted else []
            ways += [f"targets folded into layer {self._sites.output.layers[0].name}"] if setup.targets is not None else []
            names = ", ".join(layers[position].name for position in setup.normalized)
            done = [f"LayerNormalization put in front of {names}"] if names else []
            done += ["Imputation put into the model, in front of its first layer"] if setup.fills else []
            done += [f"Scaling {' and '.join(ways)}"] if ways else []
            notes.append(f"{'. '.join(done)}; predictions differ by at most {error:.1e} of their largest value.")
        self._close_gate(setup)
        self._temporary.close()
        self._changes.pop_all()
        notes += self._optimizing.settle(setup)
        notes += [NO_MATCH.format(operation=guard.operation, place=guard.source) for guard in self.idle(setup)]
        if setup.layers and not can_rebuild(self.model):
            names = ", ".join(dict.fromkeys(layers[position].name for position in setup.layers))
            notes.append(f"A saved model is made anew by its own code when it is loaded: change {names} there, too.")
        self._forget_functions()
        return notes

    def idle(self, setup: Setup) -> list[Guard]:
        """Return the guards that have found nothing to guard in any traced graph, so that they did nothing."""
        return [guard for guard in setup.guards if guard.source is not None and not self._matches[guard]]

    def adapted(self, setup: Setup) -> Callable[[list[Any]], list[Any]]:
        """Return what makes of the user's callbacks those that `setup` is trained with."""
        return lambda callbacks: with_rates(wrapped(callbacks, self.moment(setup)), setup)

    def moment(self, setup: Setup) -> Moment | None:
        """Return what makes the model, for a moment, the one it will be handed back as; None where layers will be added."""
        foldable = all(foldable_with(self._sites.inputs[i], affine) for i, affine in setup.inputs.items())
        return (lambda: self._as_handed_back(setup)) if foldable and not setup.fills and not setup.normalized else None

    @contextlib.contextmanager
    def _as_handed_back(self, setup: Setup) -> Iterator[None]:
        held = [(variable, read(variable)) for variable in self.model.variables]
        self._gate.close()
        self._temporary.close()
        fold_inputs(self._sites, setup.inputs)
        if setup.targets is not None:
            fold_output(self._sites.output, setup.targets)
        try:
            yield
        finally:
            for variable, value in held:
                variable.assign(value)
            self._install_temporary(setup)
            self._gate.open()

    def close(self) -> None:
        """Put back everything the user's object had before, except the values of its variables."""
        self._put_back()
        self._gate.close()
        self._forget_functions()

    def _install_temporary(self, setup: Setup) -> None:
        install_objective(self.model, setup, self._temporary)
        layers = dict(walk(self.model))
        for position in setup.normalized:
            _normalize_inputs(layers[position], self._temporary)

    def _close_gate(self, setup: Setup) -> None:
        """Close the gate, which stood in the place of the model's own call, and guard that instead."""
        if self._gate.is_open:
            self._gate.close()
            install_on_call(self.model, setup.guards, self._changes, self._matches)

    def _forget_functions(self) -> None:
        for name in COMPILED:
            setattr(self.model, name, None)

    def _put_back(self) -> None:
        self._temporary.close()
        self._changes.close()

    def _switch(self, graph: str) -> None:
        """Use the functions traced for `graph`, or let Keras trace new ones; the least recent are forgotten."""
        self._functions[self._graph] = {name: getattr(self.model, name) for name in COMPILED}
        self._graph = graph
        for name, function in self._functions.pop(graph, dict.fromkeys(COMPILED)).items():
            setattr(self.model, name, function)
        while len(self._functions) > GRAPHS:
            del self._functions[next(iter(self._functions))]


def _can_evaluate(model: Any, sites: Sites) -> bool:
    """Say whether `model.evaluate` can work on the batches that the model is trained on."""
    if type(model).test_step is not keras.Model.test_step:
        return True
    return callable_alone(model) and _has_loss(model) and sites.output.blocked != OTHERWISE


def _has_loss(model: Any) -> bool:
    """Say whether Keras' own evaluation has a loss to compute: not where only a training step of the user's knows of one."""
    return model._compile_loss is not None or bool(model.losses) or type(model).compute_loss is not keras.Model.compute_loss


class _ProbeWatch(keras.callbacks.Callback):
    """Ends a probe at its first non-finite loss, when it has run its steps, or when it is lost.

    Lost is a probe whose mean loss stands far above that of the untrained model.
    """

    def __init__(self, limit: int, lost: float):
        super().__init__()
        self.steps, self.loss = 0, 0.0
        self.finite = True
        self._last: deque[float] = deque(maxlen=LAST)
        self._running_mean: bool | None = None
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
        self._last.append(0.0 if loss is None else loss)
        if self._running_mean is None and self.steps > 1 and loss is not None:
            self._running_mean = is_running_mean(self.model, logs)
        self.loss = self._last[-1] if self._running_mean else sum(self._last) / len(self._last)
        if self.steps >= self._limit or (batch >= 10 and self.loss > self._lost):
            raise _Enough


def _change_layer(layer: Any, name: str, value: Any, undo: contextlib.ExitStack) -> None:
    """Set an attribute of a layer; `max_norm` stands for the constraint of that name, `statistics` for what it is adapted to."""
    if name == "statistics":
        undo.callback(adapt_to, layer, *statistics(layer))
        adapt_to(layer, *value)
        return
    if name != "max_norm":
        if name == "activation":
            change_activation(undo, layer, keras.activations.get(value))
        else:
            put(undo, layer, name, keras.activations.get(value) if name.endswith("activation") else value)
        return
    constraint = keras.constraints.MaxNorm(value)
    for weight, argument in zip(KERNELS, ("kernel_constraint", "recurrent_constraint"), strict=True):
        if getattr(layer, weight, None) is not None:
            put(undo, layer, argument, constraint)
            put(undo, getattr(layer, weight), "constraint", constraint)


def _normalize_inputs(layer: Any, undo: contextlib.ExitStack) -> None:
    """Let the layer take its inputs normalized, as it will when a layer that does so is put in front of it."""
    call, normalize = layer.call, layer_normalization()

    @functools.wraps(call)
    def normalized(inputs, *args, **kwargs):
        return call(normalize(inputs), *args, **kwargs)

    override(undo, layer, "call", normalized)


def _initialize(layer: Any, initializer: str, seed: int) -> None:
    """Draw new kernels for a layer and set its biases to zero."""
    for name in KERNELS:
        kernel = getattr(layer, name, None)
        if kernel is not None:
            chosen = "orthogonal" if name == "recurrent_kernel" else initializer
            kind: Any = type(keras.initializers.get(chosen))
            make = kind(seed=seed)
            kernel.assign(make(kernel.shape, dtype=kernel.dtype))
    if getattr(layer, "bias", None) is not None:
        layer.bias.assign(np.zeros(layer.bias.shape))


def _graph_key(setup: Setup, variable: set[str]) -> str:
    """Name what of a setup is built into the traced graph, as what is done to data and the values of the `variable` are not."""
    optimizer = {k: None if k in variable else v for k, v in setup.optimizer.items() if k != "learning_rate"}
    scheduled = has_schedule(setup.model)
    rate = setup.optimizer.get("learning_rate") if scheduled else None
    share = setup.stepping.rate_share if scheduled else 1.0
    built_in = math.nan if share != 1.0 and "rate_share" in variable else share  # whatever it is, it is multiplied by a variable
    stepping = replace(setup.stepping, warm_up=None, fresh_moments=False, rate_share=built_in)
    powers = {index: scaling for index, scaling in setup.inputs.items() if isinstance(scaling, Power)}
    layers = sorted((position, sorted(attributes.items())) for position, attributes in setup.layers.items())
    classes = setup.optimizer_class
    return repr((sorted(optimizer.items()), classes, rate, stepping, layers, setup.loss, setup.guards, setup.normalized, powers))


def schedules(callbacks: Any) -> list[Any]:
    """Return copies of the callbacks that set the learning rate, without which a probe would not be the run."""
    flat = getattr(callbacks, "callbacks", callbacks) or []
    copies = [copy.copy(callback) for callback in keras.tree.flatten(flat) if isinstance(callback, SCHEDULES)]
    for callback in copies:
        callback.verbose = 0
    return copies
