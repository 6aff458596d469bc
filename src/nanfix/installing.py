"""Installs a setup in the user's model, so that it trains with it, and takes everything back."""

import contextlib
import functools
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import keras
import numpy as np

from nanfix.activations import change_activation
from nanfix.adapted import adapt_to, statistics
from nanfix.addresses import walk
from nanfix.changes import Guard, Power
from nanfix.gate import Gate
from nanfix.guard import Matches, install, install_on_call
from nanfix.objective import install_objective
from nanfix.optimizing import NUMBERS, Optimizing
from nanfix.private.objects import COMPILED
from nanfix.rebuild import layer_normalization
from nanfix.setup import KERNELS, Setup, has_schedule, kernels
from nanfix.snapshot import Snapshot, restore
from nanfix.steps import RecordingStep, recordable
from nanfix.undo import override, put

GRAPHS = 4  # as many traced graphs are kept; a search comes back to the latest few


class Installer:
    """Installs setups in the model, one after the other, and takes everything back on `close`.

    Functions once traced are kept for the next setup that needs the same graph: learning rate, scalings and initial
    weights are variables, so they never need a new one.
    """

    def __init__(self, model: Any, setup: Setup):
        self.model = model
        self.optimizing = Optimizing(model)
        self.layers = dict(walk(model))
        self._unchanged = setup
        self._gate = Gate(model, setup.sample)
        self._changes = contextlib.ExitStack()  # they are the repair, and stay with the model that is handed back
        self._temporary = contextlib.ExitStack()  # of use in training alone, or replaced by layers
        self._functions: dict[str, dict[str, Any]] = {}
        self._graph = "the user's own"
        self._matches: Matches = Counter()

    def open(self) -> None:
        """Keep the user's own compiled functions aside and put the gate in place."""
        self._gate.open()
        self._switch(_graph_key(self._unchanged, set()))

    def prepare(self, setup: Setup, start: Snapshot, seed: int = 0, *, trying: bool = False) -> None:
        """Make the model ready to train `setup` from `start`: state, optimizer, layers, loss, scalings, rate.

        What is only tried costs as few new traces as possible, but its optimizer is nothing to be saved.
        """
        restore(start)
        self.put_back()
        self.optimizing.install(setup, self._changes, trying=trying)
        for address, attributes in setup.layers.items():
            for name, value in attributes.items():
                _change_layer(self.layers[address], name, value, self._changes)
        install(self.model, setup.guards, self._changes, self._matches)
        self._install_temporary(setup)
        for number, address in enumerate(self.layers):
            if address in setup.initializers:
                _initialize(self.layers[address], setup.initializers[address], seed + number)
        self._gate.fill(setup.fills)
        self._gate.set(setup.inputs, setup.targets)
        variable = self.optimizing.in_variables(setup)
        self._switch(_graph_key(setup, variable if trying else variable - {*NUMBERS, "rate_share"}))
        if self.model.train_function is None and recordable(self.model):
            self.model.train_function = RecordingStep(self.model)  # so that the adopted training needs no new trace

    def put_back(self) -> None:
        """Take back what the last setup changed, apart from the values of variables."""
        self._temporary.close()
        self._changes.close()

    def close(self) -> None:
        """Put back everything the user's object had before, except the values of its variables."""
        self.put_back()
        self._gate.close()
        self.forget_functions()

    def lay_down(self, setup: Setup, undo: contextlib.ExitStack) -> None:
        """Close the gate and take away what is of use in training alone, until `undo` is closed."""
        if self._gate.is_open:
            undo.callback(self._gate.open)
            self._gate.close()
            install_on_call(self.model, setup.guards, undo, self._matches)  # which stood round the gate
        undo.callback(self._install_temporary, setup)
        self._temporary.close()

    def keep(self) -> None:
        """Leave what the last setup changed with the model for good."""
        self._changes.pop_all()
        self.forget_functions()

    def idle(self, setup: Setup) -> list[Guard]:
        """Return the guards that have found nothing to guard in any traced graph, so that they did nothing."""
        return [guard for guard in setup.guards if guard.source is not None and not self._matches[guard]]

    def forget_functions(self) -> None:
        for name in COMPILED:
            setattr(self.model, name, None)

    def _install_temporary(self, setup: Setup) -> None:
        install_objective(self.model, setup, self._temporary)
        for address in setup.normalized:
            _normalize_inputs(self.layers[address], self._temporary)

    def _switch(self, graph: str) -> None:
        """Use the functions traced for `graph`, or let Keras trace new ones; the least recent are forgotten."""
        self._functions[self._graph] = {name: getattr(self.model, name) for name in COMPILED}
        self._graph = graph
        for name, function in self._functions.pop(graph, dict.fromkeys(COMPILED)).items():
            setattr(self.model, name, function)
        while len(self._functions) > GRAPHS:
            del self._functions[next(iter(self._functions))]


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
    for kernel, argument in kernels(layer).items():
        put(undo, layer, argument, constraint)
        put(undo, getattr(layer, kernel), "constraint", constraint)


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
    powers = {name: scaling for name, scaling in setup.inputs.items() if isinstance(scaling, Power)}
    layers = sorted((address, sorted(attributes.items())) for address, attributes in setup.layers.items())
    told: Sequence[Any] = (sorted(optimizer.items()), setup.optimizer_class, rate, stepping, layers, setup.loss, setup.guards)
    return repr((*told, setup.normalized, powers))
