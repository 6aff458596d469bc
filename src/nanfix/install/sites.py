"""Where the inputs and outputs of a model meet its layers: which of them a scaling could be folded
into, and which give the outputs.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers, tree

from nanfix.data.arrays import rows_in, take_rows
from nanfix.install._names import (
    IGNORED,
    PASSING,
    PICKING,
    Fixed,
    Mark,
    columns_in,
    compares_with_zero,
    takes_names,
)
from nanfix.model.activations import settable_activation
from nanfix.model.addresses import input_names
from nanfix.model.operations import Operation, traced
from nanfix.model.outputs import keys_of
from nanfix.model.undo import override
from nanfix.private.tensorflow import functions_run_eagerly

RECURRENT = (layers.LSTM, layers.GRU, layers.SimpleRNN)
CELLS = (layers.LSTMCell, layers.GRUCell, layers.SimpleRNNCell)
CONVOLUTIONS = (layers.Conv1D, layers.Conv2D, layers.Conv3D)
FOLDABLE = (layers.Dense, *CONVOLUTIONS, *RECURRENT, layers.BatchNormalization)
HALF = ("float16", "bfloat16")
RESHAPING = layers.Reshape | layers.Flatten | layers.Identity
NO_CALL = "the model has no call of its own"
OTHERWISE = "the model's own training step gives its call something else than the inputs of a batch"
NOT_CALLED = "the model's own training step does not call the model"
UNSEEN = (NO_CALL, OTHERWISE)


@dataclass(frozen=True)
class Site:
    """Where an input enters or an output leaves the model: the layers to fold into, or
    why that cannot be exact.
    """

    layers: tuple[keras.Layer, ...] = ()
    blocked: str | None = None
    fixed: bool = False  # names, as class indices, or in a formula: no scaling may change it
    fixed_columns: frozenset[int] = frozenset()  # the same of columns of a table
    keeps_zero: bool = False  # 0 is told from other numbers, and has to stay 0

    @property
    def foldable(self) -> bool:
        whole = self.blocked is None and not self.fixed and not self.fixed_columns
        return bool(self.layers) and whole


@dataclass(frozen=True)
class Sites:
    """The sites of every input by its name, and of every output.

    `unseen` says why nothing that stands in front of the model, or behind it, acts in training,
    None where it does. `outer` are the layers whose activation gives the outputs, None for an
    output that something else gives; None where no output was seen. `columns` are, for each output,
    the layers that give its columns, each with their number; none where that is not known. `keys`
    are those of the dict that the outputs are given in, `shapes` what each has for every row.
    `in_step` are the sites of the inputs in a training step that passes the model's call by.
    """

    inputs: Mapping[str, Site]
    outputs: tuple[Site, ...] = ()
    unseen: str | None = None
    outer: tuple[keras.Layer | None, ...] | None = None
    columns: tuple[tuple[tuple[keras.Layer | None, int], ...], ...] = ()
    keys: tuple[str, ...] = ()
    shapes: tuple[tuple[int, ...], ...] = ()
    in_step: Mapping[str, Site] = field(default_factory=dict)

    def foldable_alone(self, name: str) -> bool:
        """Say whether an input's scaling folds, whatever is done to the other inputs:
        no layer takes two of them.
        """
        own = {id(layer) for layer in self.inputs[name].layers}
        others = (site for other, site in self.inputs.items() if other != name)
        return self.inputs[name].foldable and not any(
            id(layer) in own for site in others for layer in site.layers
        )

    def passed_by(self, in_step: Mapping[str, Site]) -> "Sites":
        """Return the sites of a model whose training passes its call by, so that nothing in front
        of that or behind it acts in training; `in_step` is where inputs go instead.
        """
        if self.unseen == NO_CALL:
            return replace(self, in_step=in_step)
        inputs = {name: replace(site, blocked=NOT_CALLED) for name, site in self.inputs.items()}
        outputs = tuple(replace(site, blocked=NOT_CALLED) for site in self.outputs)
        unseen = self.unseen or NOT_CALLED
        return replace(self, inputs=inputs, outputs=outputs, unseen=unseen, in_step=in_step)


def find_sites(model: keras.Model, inputs: Any) -> Sites:
    """Run the model once on `inputs` (its own structure, a few rows) and see which
    layers its ends lie in.

    A model that only trains, as a GAN that has no call of its own, has no such ends. One that is
    not built is built first.
    """
    if not callable_alone(model):
        closed = Site(blocked=NO_CALL)
        names = (name for name in input_names(model, inputs) if name is not None)
        return Sites(dict.fromkeys(names, closed), unseen=NO_CALL)
    if not model.built:
        model(inputs, training=False)  # as Keras does it, so that a saved model knows of its shapes
    inputs = tree.map_structure(
        lambda leaf: tf.convert_to_tensor(leaf) if isinstance(leaf, np.ndarray) else leaf, inputs
    )
    trace, names, inner = Trace(), input_names(model, inputs), model.call

    def call(given, *args, **kwargs):
        leaves = [leaf if leaf is None else tf.identity(leaf) for leaf in tree.flatten(given)]
        trace.begin(dict(zip(names, leaves, strict=True)))
        return inner(tree.pack_sequence_as(given, leaves), *args, **kwargs)

    with ExitStack() as during:
        override(during, model, "call", call)
        # Layers and calls that the user has compiled are seen through.
        with functions_run_eagerly(True), traced(trace.visit):
            outputs = model(inputs, training=False)
    ends = tree.flatten(outputs)
    return Sites(
        {name: trace.site(name) for name in names if name is not None},
        tuple(trace.outputs(ends)),
        outer=tuple(map(trace.outer, ends)),
        columns=tuple(tuple(trace.columns(output)) for output in ends),
        keys=keys_of(outputs),
        shapes=tuple(tuple(output.shape[1:]) for output in ends),
    )


def callable_alone(model: keras.Model) -> bool:
    """Say whether a model has a forward pass of its own, and not only a training step."""
    return "call" in vars(model) or type(model).call is not keras.Model.call


@dataclass
class Trace:
    """Follows each input through operations that only reshape it, up to the layers that
    compute with it.
    """

    _kept: list[tf.Tensor | None] = field(default_factory=list)
    # The inputs that tensors are, by id.
    _marks: dict[int, Mark] = field(default_factory=dict)
    _given: dict[str, tf.Tensor] = field(default_factory=dict)
    _layers: dict[str, dict[int, keras.Layer]] = field(default_factory=dict)
    _blocked: dict[str, str] = field(default_factory=dict)
    _fixed: Fixed = field(default_factory=Fixed)
    _told_from_zero: set[str] = field(default_factory=set)
    _fed_otherwise: set[int] = field(default_factory=set)
    _producer: dict[int, Operation] = field(default_factory=dict)

    def begin(self, leaves: Mapping[str | None, tf.Tensor | None]) -> None:
        self._kept += leaves.values()
        known = ((n, leaf) for n, leaf in leaves.items() if n is not None and leaf is not None)
        self._given = dict(known)
        self._marks = {id(leaf): (name, None) for name, leaf in self._given.items()}

    def visit(self, operation: Operation) -> None:
        self._kept += [*operation.inputs, *operation.outputs]
        self._producer.update({id(tensor): operation for tensor in operation.outputs})
        hits = {self._marks[id(tensor)] for tensor in operation.inputs if id(tensor) in self._marks}
        self._fixed.visit(operation, self._marks)
        layer = next(
            (layer for layer in reversed(operation.layers) if isinstance(layer, FOLDABLE)), None
        )
        if not hits:
            if (
                layer is not None
                and not isinstance(layer, RECURRENT)
                and operation.kind in ("MatMul", "Conv2D", "Conv3D")
            ):
                self._fed_otherwise.add(id(layer))
            return
        if operation.kind in IGNORED:
            return
        for mark in hits:
            self._follow(mark, operation, layer)

    def _follow(self, mark: Mark, operation: Operation, layer: Any) -> None:
        name, _ = mark
        marked = [self._marks.get(id(tensor)) == mark for tensor in operation.inputs]
        whole = self._given[name].dtype.is_integer
        if takes_names(operation, marked, whole=whole):
            self._fixed.looked_up.add(mark)
        elif compares_with_zero(operation, marked):
            self._told_from_zero.add(name)
        elif layer is not None:
            self._layers.setdefault(name, {})[id(layer)] = layer
            if operation.kind in (*PASSING, "Transpose"):
                self._mark(operation, mark)
        elif operation.kind in PASSING:
            self._mark(operation, mark)
        else:
            if operation.kind in PICKING and id(operation.inputs[0]) in self._marks:
                self._pick(operation, name)
            where = f" in layer {operation.layer.name}" if operation.layer is not None else ""
            self._blocked.setdefault(name, f"the input also goes into {operation.kind}{where}")

    def _mark(self, operation: Operation, mark: Mark) -> None:
        self._marks.update({id(tensor): mark for tensor in operation.outputs})

    def _pick(self, operation: Operation, name: str) -> None:
        """Mark what an operation picks of a table, with the columns whose numbers it holds."""
        for tensor in operation.outputs:
            columns = columns_in(np.asarray(tensor), np.asarray(self._given[name]))
            if columns is not None:
                self._marks[id(tensor)] = (name, columns)

    def site(self, name: str) -> Site:
        found = tuple(self._layers.get(name, {}).values())
        blocked = self._blocked.get(name)
        for layer in found:
            if id(layer) in self._fed_otherwise:
                blocked = f"layer {layer.name} also takes other values than the input"
            elif (
                getattr(layer, "groups", 1) != 1
                or getattr(layer, "data_format", "channels_last") != "channels_last"
            ):
                blocked = f"layer {layer.name} mixes its input in groups or channels first"
            elif layer.compute_dtype in HALF:
                blocked = (
                    f"layer {layer.name} computes in {layer.compute_dtype}, which unscaled "
                    "numbers may exceed"
                )
        return Site(found, blocked, *self._fixed.of(name), name in self._told_from_zero)

    def outer(self, output: tf.Tensor) -> keras.Layer | None:
        """Return the layer whose activation gives an output; that of a recurrent cell does not."""
        operation = self._giving(output)
        return None if operation is None else _with_activation(operation.layer)

    def columns(self, output: tf.Tensor) -> Iterator[tuple[keras.Layer | None, int]]:
        """Yield the layers that give the columns of an output, through what only joins and passes
        them, each with how many it gives; nothing for an output without columns.
        """
        operation = self._giving(output)
        width = output.shape[-1] if len(output.shape) > 1 else 0
        if operation is None or not width or operation.outputs[0].shape[-1] != width:
            return
        *parts, axis = operation.inputs
        if operation.kind == "ConcatV2" and int(axis) in (-1, len(output.shape) - 1):
            for part in parts:
                yield from tuple(self.columns(part)) or ((None, int(part.shape[-1] or 0)),)
        else:
            yield _with_activation(operation.layer), width

    def _giver(self, output: tf.Tensor) -> Any:
        """Return the layer that computes an output, but for its shape."""
        operation = self._giving(output)
        return operation.layer if operation is not None else None

    def _giving(self, output: tf.Tensor) -> Operation | None:
        """Return the operation that computes an output, but for its shape."""
        operation = self._producer.get(id(output))
        while (
            operation is not None
            and operation.kind in PASSING
            and isinstance(operation.layer, RESHAPING | None)
        ):
            operation = self._producer.get(id(operation.inputs[0]))
        return operation

    def outputs(self, ends: Sequence[tf.Tensor]) -> Iterator[Site]:
        """Yield the site of each output; a layer that gives several is folded into for none."""
        sites = [self._output(end) for end in ends]
        count = Counter(id(layer) for site in sites for layer in site.layers)
        for site in sites:
            shared = next((layer for layer in site.layers if count[id(layer)] > 1), None)
            blocked = None if shared is None else f"layer {shared.name} gives several outputs"
            yield replace(site, blocked=site.blocked or blocked)

    def _output(self, end: tf.Tensor) -> Site:
        layer = self._giver(end)
        if isinstance(layer, layers.TimeDistributed):
            layer = layer.layer
        if not isinstance(layer, (layers.Dense, *CONVOLUTIONS)):
            return Site(
                blocked="the output does not come straight from a Dense or convolutional layer"
            )
        if layer.activation is not keras.activations.linear:
            return Site(blocked=f"the last layer {layer.name} is not linear")
        if not layer.use_bias:
            return Site((layer,), blocked=f"the last layer {layer.name} has no bias")
        if layer.compute_dtype in HALF:
            return Site(
                blocked=(
                    f"the last layer {layer.name} computes in {layer.compute_dtype}, which "
                    "unscaled numbers may exceed"
                )
            )
        return Site((layer,))


def _with_activation(layer: Any) -> keras.Layer | None:
    """Return the layer if its activation is its own; that of a recurrent cell is not."""
    settable = layer is not None and settable_activation(layer) and not isinstance(layer, CELLS)
    return layer if settable else None


def some_rows(x: Any, count: int) -> Any:
    """Return so many of the first rows of what a model is given; all, where it has no rows."""
    return x if rows_in(x) is None else take_rows(x, slice(0, count))


def fixed_batch(model: keras.Model) -> int | None:
    """Return the number of rows that every batch of the model has, if it is built for one."""
    tensors = tree.flatten(getattr(model, "inputs", None) or [])
    return next((tensor.shape[0] for tensor in tensors if tensor.shape and tensor.shape[0]), None)
