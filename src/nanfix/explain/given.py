"""What an operation was given: in numbers, and operand by operand as its line has them."""

import weakref

import numpy as np
import tensorflow as tf
from keras import tree

from nanfix.data.arrays import unpacked
from nanfix.model.operands import operands
from nanfix.model.operations import Operation, array_of
from nanfix.model.training_step import Batch
from nanfix.records.domains import Given
from nanfix.records.unsafe_operations import BY_INFINITY, UNSAFE_OPERATIONS

PARTS_OF_BATCH, WEIGHTS = ("inputs", "targets", "sample weights"), "weights"
NOTED = {"Mul": BY_INFINITY, "Pow": "Pow"}


class GivenOperands:
    """Notes, over one step, which factors of products are infinite, and which kinds of exponents
    there are: what has to be known to write a guard into the source. Notes, too, which tensors are
    computed of one part of the batch alone.
    """

    def __init__(self, batch: Batch):
        # id of a tensor that lives -> the parts of the batch, and the weights, that it comes from.
        self._made_of: dict[int, tuple[weakref.ref[tf.Tensor], frozenset[str]]] = {}
        for part, leaves in zip(PARTS_OF_BATCH, unpacked(batch), strict=True):
            for leaf in filter(tf.is_tensor, tree.flatten(leaves)):
                self._made_of[id(leaf)] = weakref.ref(leaf), frozenset({part})
        # Line and operation -> text of an operand -> what it was.
        self._noted: dict[tuple[str, str], dict[str, Given]] = {}
        # Products with an infinite factor: the factor is at fault, not they. id -> line, reference.
        self._products: dict[int, tuple[str, weakref.ref[tf.Tensor]]] = {}

    def visit(self, operation: Operation) -> None:
        sources = frozenset().union(*map(self._sources, operation.inputs))
        for tensor in operation.outputs if sources else ():
            self._made_of[id(tensor)] = weakref.ref(tensor), sources
        name, line = NOTED.get(operation.kind), operation.line
        if name is None or line is None or operation.at is None or operation.updates:
            return
        seen = (
            _kind_of_exponent(operation.inputs[1])
            if name == "Pow"
            else self._infinite(operation, line.source)
        )
        if not seen:
            return
        texts = operands(*operation.at, UNSAFE_OPERATIONS[name])
        noted = self._noted.setdefault((line.source, name), {})
        for index, what in seen.items() if len(texts) > max(seen) else ():
            before = noted.get(texts[index], what)
            noted[texts[index]] = what if before is what else Given.MIXED

    def made_of(self, tensor: tf.Tensor) -> str | None:
        """Return the part of the batch that a tensor is computed of, where that is one alone."""
        sources = self._sources(tensor)
        return next(iter(sources)) if len(sources) == 1 and not sources & {WEIGHTS} else None

    def _sources(self, tensor: tf.Tensor) -> frozenset[str]:
        if tensor.dtype == tf.resource:
            return frozenset({WEIGHTS})
        reference, sources = self._made_of.get(id(tensor), (None, frozenset()))
        return sources if reference is not None and reference() is tensor else frozenset()

    def of(self, source: str | None, operation: str | None) -> tuple[tuple[str, str], ...]:
        """Return the operands of an operation on a line, each with what it was."""
        noted = self._noted.get((source or "", operation or ""), {})
        return tuple((text, what.value) for text, what in noted.items())

    def _infinite(self, operation: Operation, source: str) -> dict[int, Given]:
        infinite = [
            index
            for index, tensor in enumerate(operation.inputs)
            if tensor.dtype.is_floating and np.isinf(array_of(tensor)).any()
        ]
        if infinite:
            for product in operation.outputs:
                self._products[id(product)] = source, weakref.ref(product)
        return {
            index: Given.INFINITE
            for index in infinite
            if not self._is_product(operation.inputs[index], source)
        }

    def _is_product(self, tensor: tf.Tensor, source: str) -> bool:
        line, reference = self._products.get(id(tensor), (None, lambda: None))
        return line == source and reference() is tensor


def _kind_of_exponent(exponent: tf.Tensor) -> dict[int, Given]:
    values = array_of(exponent)
    whole = values == np.floor(values)
    kinds = {
        Given.FRACTION: ~whole,
        Given.WHOLE: whole & (values >= 1),
        Given.BELOW_ONE: whole & (values < 1),
    }
    found = [kind for kind, where in kinds.items() if where.any()]
    return {1: found[0] if len(found) == 1 else Given.MIXED} if found else {}


def range_of(values: np.ndarray) -> str:
    """Describe the values of an array in a few words, complex ones by their sizes."""
    if np.iscomplexobj(values):
        return f"sizes of {range_of(np.abs(values))}"
    finite = values[np.isfinite(values)].astype("float64")
    kinds = ((np.isnan(values), "NaN"), (values == np.inf, "inf"), (values == -np.inf, "-inf"))
    counts = [f"{where.sum()} {word}" for where, word in kinds if where.any()]
    if finite.size and finite.min() == finite.max():
        counts.insert(0, _digits(finite.min()))
    elif finite.size:
        counts.insert(0, f"{_digits(finite.min())} to {_digits(finite.max())}")
    return " with ".join([counts[0], " and ".join(counts[1:])]) if len(counts) > 1 else counts[0]


def _digits(number: float) -> str:
    """Write a number with as many digits as show that it is not 1 or -1, edges of domains."""
    text = f"{number:.4g}"
    return f"{number:.8g}" if text in ("1", "-1") and number != float(text) else text
