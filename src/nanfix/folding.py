"""Fold a scaling of inputs and outputs exactly into the weights of the first and last layers.

A layer that computes W x + b on scaled inputs (x - c) / s computes the same on raw ones with W / s and b - W c / s;
a last layer whose outputs are to be multiplied by s and moved by c becomes W s and b s + c.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers, tree

from nanfix.changes import Affine, Power, TargetScaling
from nanfix.optrace import Operation, traced

RECURRENT = (layers.LSTM, layers.GRU, layers.SimpleRNN)
CONVOLUTIONS = (layers.Conv1D, layers.Conv2D, layers.Conv3D)
FOLDABLE = (layers.Dense, *CONVOLUTIONS, *RECURRENT, layers.BatchNormalization)
HALF = ("float16", "bfloat16")
LOOKUPS = (layers.Embedding, layers.Masking)
PASSING = {"Cast", "Identity", "Reshape", "ExpandDims", "Squeeze", "StopGradient"}
RESHAPING = layers.Reshape | layers.Flatten | layers.Identity
NO_CALL = "the model has no call of its own"
IGNORED = {"Shape", "Rank", "Size", "ZerosLike"}


@dataclass(frozen=True)
class Site:
    """Where an input enters or an output leaves the model: the layers to fold into, or why that cannot be exact."""

    layers: tuple[Any, ...] = ()
    blocked: str | None = None
    looked_up: bool = False  # class indices or a mask value, whose numbers must stay as they are

    @property
    def foldable(self) -> bool:
        return bool(self.layers) and self.blocked is None and not self.looked_up


@dataclass(frozen=True)
class Sites:
    """The sites of every flattened input, and of the single output."""

    inputs: tuple[Site, ...]
    output: Site


def find_sites(model: Any, inputs: Any) -> Sites:
    """Run the model once on `inputs` (its own structure, a few rows) and see which layers its ends lie in.

    A model that only trains, as a GAN that has no call of its own, has no such ends.
    """
    if not callable_alone(model):
        count = len(tree.flatten(inputs))
        return Sites((Site(blocked=NO_CALL),) * count, Site(blocked=NO_CALL))
    trace = _Trace()

    def call(given, *args, **kwargs):
        leaves = [leaf if leaf is None else tf.identity(leaf) for leaf in tree.flatten(given)]
        trace.begin(leaves)
        return type(model).call(model, tree.pack_sequence_as(given, leaves), *args, **kwargs)

    model.call = call
    try:
        with traced(trace.visit):
            outputs = model(inputs, training=False)
    finally:
        vars(model).pop("call", None)
    return Sites(tuple(trace.site(index) for index in range(trace.count)), trace.output(outputs))


def callable_alone(model: Any) -> bool:
    """Say whether a model has a forward pass of its own, and not only a training step."""
    return type(model).call is not keras.Model.call


def fold_inputs(sites: Sites, scaling: Mapping[int, Any]) -> None:
    """Fold the scaling of each input into the layers that take it. Every site must be foldable."""
    done: dict[int, Affine] = {}
    for index, affine in scaling.items():
        for layer in sites.inputs[index].layers:
            if id(layer) not in done:
                done[id(layer)] = affine
                _fold_into(layer, affine)


def fold_output(site: Site, scaling: TargetScaling) -> None:
    """Fold y = center + scale * f into the last layer. The site must be foldable."""
    (layer,) = site.layers
    layer.kernel.assign(layer.kernel * scaling.scale)
    layer.bias.assign(layer.bias * scaling.scale + scaling.center)


def foldable_with(site: Site, scaling: Affine | Power) -> bool:
    """Say whether this very scaling folds exactly: layers without bias or with zero padding take no shift, none a power."""
    if isinstance(scaling, Power):
        return False
    shifts = any(scaling.center)
    return site.foldable and not any(shifts and _takes_no_shift(layer) for layer in site.layers)


def _takes_no_shift(layer: Any) -> bool:
    if isinstance(layer, layers.BatchNormalization):
        return False
    return not layer.use_bias or getattr(layer, "padding", "valid") != "valid"


def _fold_into(layer: Any, affine: Affine) -> None:
    if isinstance(layer, layers.BatchNormalization):
        _fold_into_statistics(layer, affine)
        return
    holder = layer.cell if isinstance(layer, RECURRENT) else layer
    kernel = np.asarray(holder.kernel, "float64")
    wide = affine.tiled(kernel.shape[-2])
    scaled = kernel / np.asarray(wide.scale)[:, None]
    if any(affine.center):
        shift = np.einsum("...io,i->...o", scaled, np.asarray(wide.center))
        shift = shift.reshape(-1, shift.shape[-1]).sum(axis=0)
        bias = np.asarray(holder.bias, "float64")
        # A GRU with reset_after keeps two biases; the input's is the first.
        moved = np.concatenate([bias[:1] - shift, bias[1:]]) if bias.ndim == 2 else bias - shift
        holder.bias.assign(moved.astype("float32"))
    holder.kernel.assign(scaled.astype("float32"))


def _fold_into_statistics(layer: Any, affine: Affine) -> None:
    """Fold into a batch normalization: what it subtracts and divides by are moved and stretched instead."""
    wide = affine.tiled(int(layer.moving_mean.shape[0]))
    center, scale = np.asarray(wide.center, "float32"), np.asarray(wide.scale, "float32")
    variance = np.asarray(layer.moving_variance)
    layer.moving_mean.assign(center + scale * np.asarray(layer.moving_mean))
    layer.moving_variance.assign(scale**2 * (variance + layer.epsilon) - layer.epsilon)


@dataclass
class _Trace:
    """Follows each input through operations that only reshape it, up to the layers that compute with it."""

    count: int = 0
    _kept: list[Any] = field(default_factory=list)
    _marks: dict[int, int] = field(default_factory=dict)
    _layers: dict[int, dict[int, Any]] = field(default_factory=dict)
    _blocked: dict[int, str] = field(default_factory=dict)
    _looked_up: set[int] = field(default_factory=set)
    _fed_otherwise: set[int] = field(default_factory=set)
    _producer: dict[int, Operation] = field(default_factory=dict)

    def begin(self, leaves: list[Any]) -> None:
        self.count = len(leaves)
        self._kept += leaves
        self._marks = {id(leaf): index for index, leaf in enumerate(leaves) if leaf is not None}

    def visit(self, operation: Operation) -> None:
        self._kept += [*operation.inputs, *operation.outputs]
        self._producer.update({id(tensor): operation for tensor in operation.outputs})
        hits = {self._marks[id(tensor)] for tensor in operation.inputs if id(tensor) in self._marks}
        layer = next((layer for layer in reversed(operation.layers) if isinstance(layer, FOLDABLE)), None)
        if not hits:
            if layer is not None and not isinstance(layer, RECURRENT) and operation.kind in ("MatMul", "Conv2D", "Conv3D"):
                self._fed_otherwise.add(id(layer))
            return
        if operation.kind in IGNORED:
            return
        for index in hits:
            self._follow(index, operation, layer)

    def _follow(self, index: int, operation: Operation, layer: Any) -> None:
        if any(isinstance(outer, LOOKUPS) for outer in operation.layers):
            self._looked_up.add(index)
        elif layer is not None:
            self._layers.setdefault(index, {})[id(layer)] = layer
            if operation.kind in (*PASSING, "Transpose"):
                self._mark(operation, index)
        elif operation.kind in PASSING:
            self._mark(operation, index)
        else:
            where = f" in layer {operation.layer.name}" if operation.layer is not None else ""
            self._blocked.setdefault(index, f"the input also goes into {operation.kind}{where}")

    def _mark(self, operation: Operation, index: int) -> None:
        self._marks.update({id(tensor): index for tensor in operation.outputs})

    def site(self, index: int) -> Site:
        found = tuple(self._layers.get(index, {}).values())
        blocked = self._blocked.get(index)
        for layer in found:
            if id(layer) in self._fed_otherwise:
                blocked = f"layer {layer.name} also takes other values than the input"
            elif getattr(layer, "groups", 1) != 1 or getattr(layer, "data_format", "channels_last") != "channels_last":
                blocked = f"layer {layer.name} mixes its input in groups or channels first"
            elif layer.compute_dtype in HALF:
                blocked = f"layer {layer.name} computes in {layer.compute_dtype}, which unscaled numbers may exceed"
        return Site(found, blocked, index in self._looked_up)

    def output(self, outputs: Any) -> Site:
        if not tf.is_tensor(outputs):
            return Site(blocked="the model has several outputs")
        operation = self._producer.get(id(outputs))
        while operation is not None and operation.kind in PASSING and isinstance(operation.layer, RESHAPING | None):
            operation = self._producer.get(id(operation.inputs[0]))
        layer = operation.layer if operation is not None else None
        if isinstance(layer, layers.TimeDistributed):
            layer = layer.layer
        if not isinstance(layer, (layers.Dense, *CONVOLUTIONS)):
            return Site(blocked="the output does not come straight from a Dense or convolutional layer")
        if layer.activation is not keras.activations.linear or not layer.use_bias:
            return Site(blocked=f"the last layer {layer.name} is not linear with a bias")
        if layer.compute_dtype in HALF:
            return Site(
                blocked=f"the last layer {layer.name} computes in {layer.compute_dtype}, which unscaled numbers may exceed"
            )
        return Site((layer,))


def difference(before: Callable[[], Any], change: Callable[[], None], after: Callable[[], Any]) -> float:
    """Apply `change` and return the largest difference it made to predictions, as a share of their largest value."""
    old = np.asarray(before(), "float64")
    change()
    new = np.asarray(after(), "float64")
    return float(np.abs(new - old).max() / max(float(np.abs(old).max()), 1e-12)) if old.size else 0.0
