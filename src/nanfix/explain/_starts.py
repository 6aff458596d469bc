"""Initial weights that let no number grow on its way through the model, found on real rows."""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from nanfix.changes.initial_weights import draw
from nanfix.explain._signal import passed_eagerly, rows_of_unit_scale, signal_of, size_of
from nanfix.install.sites import PASSING
from nanfix.model.activations import fitting_initializer
from nanfix.model.constraints import KERNELS
from nanfix.model.learned_weights import drawable
from nanfix.model.operations import Operation
from nanfix.model.run import Run

KEPT, SMALLER, TIMES = 4.0, 0.7, 8  # kernels get smaller until no layer gives more than `KEPT`
GROWN = 2.0  # what a kernel gives, in units of what goes into the model; more is too much
PRODUCTS = ("MatMul", "BatchMatMulV2", "Conv2D", "Conv3D", "DepthwiseConv2dNative", "Einsum")
SUMS = ("AddV2", "Add")
LINEAR = (*PASSING, *SUMS, "BiasAdd", "Mul", "RealDiv")  # where the rest is constants and weights
READ = "ReadVariableOp"
NORMALIZATIONS = (
    layers.BatchNormalization,
    layers.LayerNormalization,
    layers.GroupNormalization,
    layers.RMSNormalization,
)

Weights = list[tuple[keras.Variable, np.ndarray]]


@dataclass(frozen=True)
class Branch:
    """What is added to what goes round it: the layer that ends it, and whether that is `linear`."""

    end: int
    linear: bool


def fitting_start(run: Run) -> tuple[Weights, dict[str, float]]:
    """Return kernels with which numbers keep their scale, and how large those of some layers are,
    by address, as a share of what their initializer draws. Changes the weights of the model.

    With the variance of the initializer alone, sums still grow in residual stacks. There a kernel
    that ends a branch begins as zeros, or a share of 1 / sqrt(branches) before an activation, which
    has no slope at 0; then each kernel, from the first layer on, is so small that it gives numbers
    of unit size, measured on real rows.

    Reference: Mishkin & Matas (2016), All you need is a good init (LSUV), arXiv:1511.06422; Zhang,
    Dauphin & Ma (2019), Fixup, arXiv:1901.09321; Bachlechner et al. (2021), ReZero.
    """
    drawn = drawable(run)
    known = {address: run.members[address] for address, _ in drawn}
    for number, (address, activation) in enumerate(drawn):
        draw(known[address], fitting_initializer(activation), 1.0, number)
    rows = rows_of_unit_scale(run)
    shares = dict.fromkeys(known, 1.0)
    if _largest(run, rows) > KEPT:
        _hold(run, rows, known, shares)
    weights = [each for layer in known.values() for each in _weights(layer, (*KERNELS, "bias"))]
    found = {address: share for address, share in shares.items() if share != 1.0}
    return [(weight, np.array(weight)) for weight in weights], found


def assign(weights: Weights) -> None:
    for weight, value in weights:
        weight.assign(value)


def _hold(run: Run, rows: Any, known: Mapping[str, Any], shares: dict[str, float]) -> None:
    """Make kernels smaller until no layer gives much more than what goes into the model."""

    def smaller(address: str, share: float) -> None:
        for kernel in _weights(known[address], KERNELS):
            kernel.assign(np.asarray(kernel) * share)
        shares[address] *= share

    addresses = {id(layer): address for address, layer in known.items()}
    course = _course(run, rows)
    branches = [each for each in course.branches() if each.end in addresses]
    for branch in {each.end: each for each in branches}.values():
        zero = branch.linear and course.used[branch.end] == 1
        smaller(addresses[branch.end], 0.0 if zero else 1.0 / math.sqrt(len(branches)))
    for _ in known:
        sizes = _course(run, rows).sizes
        large = [each for each in sizes if each in addresses and GROWN < sizes[each] < math.inf]
        if not large:
            break
        smaller(addresses[large[0]], 1.0 / sizes[large[0]])
    for _ in range(TIMES):
        if _largest(run, rows) <= KEPT:
            break
        for address in known:
            smaller(address, SMALLER)


def _largest(run: Run, rows: Any) -> float:
    return max(signal_of(run, rows).sizes.values(), default=0.0)


def _weights(layer: Any, names: Iterable[str]) -> list[keras.Variable]:
    return [getattr(layer, name) for name in names if getattr(layer, name, None) is not None]


@dataclass
class _Course:
    """The operations of one forward pass. `sizes` has, by the id of the layer and in the order of
    the pass, the largest root mean square of what its kernel gives, `used` how often it does.
    """

    sizes: dict[int, float] = field(default_factory=dict)
    used: dict[int, int] = field(default_factory=dict)
    _made_by: dict[int, Operation] = field(default_factory=dict)
    _sums: list[Operation] = field(default_factory=list)

    def visit(self, operation: Operation) -> None:
        self._made_by.update({id(tensor): operation for tensor in operation.outputs})
        layer = operation.layer
        if operation.kind in PRODUCTS and _has_kernel(layer):
            size = size_of(operation.outputs[0]) or 0.0
            self.sizes[id(layer)] = max(size, self.sizes.get(id(layer), 0.0))
            self.used[id(layer)] = self.used.get(id(layer), 0) + 1
        elif operation.kind in SUMS and not _has_kernel(layer):
            self._sums.append(operation)

    def branches(self) -> Iterator[Branch]:
        """Yield what is added to something that it was computed of."""
        for each in self._sums:
            first, second = each.inputs[:2]
            if first.shape == second.shape:
                for branch, around in ((first, second), (second, first)):
                    if self._comes_of(branch, self._root(around)):
                        yield from self._ends(branch)

    def _root(self, tensor: tf.Tensor) -> int:
        """Return the id of the tensor that is passed on unchanged as this one."""
        made = self._made_by.get(id(tensor))
        while made is not None and made.kind in PASSING:
            tensor = made.inputs[0]
            made = self._made_by.get(id(tensor))
        return id(tensor)

    def _comes_of(self, tensor: tf.Tensor, root: int) -> bool:
        if self._root(tensor) == root:
            return False  # the same once more
        seen, waiting = set(), [tensor]
        while waiting:
            each = waiting.pop()
            if id(each) == root:
                return True
            made = self._made_by.get(id(each))
            if made is not None and id(each) not in seen:
                seen.add(id(each))
                waiting += made.inputs
        return False

    def _ends(self, branch: tf.Tensor) -> Iterator[Branch]:
        """Yield the layer whose kernel gives a branch, through nothing that norms it again."""
        linear, made = True, self._made_by.get(id(branch))
        while made is not None and not isinstance(made.layer, NORMALIZATIONS):
            if made.kind in PRODUCTS:
                if _has_kernel(made.layer):
                    yield Branch(id(made.layer), linear)
                return
            linear = linear and made.kind in LINEAR
            computed = [self._made_by.get(id(tensor)) for tensor in made.inputs]
            known = [each for each in computed if each is not None and each.kind != READ]
            made = known[0] if len(known) == 1 else None


def _course(run: Run, rows: Any) -> _Course:
    """Return what a forward pass does; what is known of it where it cannot be run eagerly."""
    found = _Course()
    passed_eagerly(run, rows, found.visit)
    return found


def _has_kernel(layer: object) -> bool:
    return getattr(layer, "kernel", None) is not None
