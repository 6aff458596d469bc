"""What an operation was given: in numbers, and operand by operand as its line has them."""

import weakref

import numpy as np
import tensorflow as tf

from nanfix.model.operands import operands
from nanfix.model.operations import Operation, array_of
from nanfix.records.domains import Given
from nanfix.records.unsafe_operations import BY_INFINITY, UNSAFE_OPERATIONS

NOTED = {"Mul": BY_INFINITY, "Pow": "Pow"}


class GivenOperands:
    """Notes, over one step, which factors of products are infinite, and which kinds of exponents
    there are: what has to be known to write a guard into the source.
    """

    def __init__(self):
        # Line and operation -> text of an operand -> what it was.
        self._noted: dict[tuple[str, str], dict[str, Given]] = {}
        # Products with an infinite factor: the factor is at fault, not they. id -> line, reference.
        self._products: dict[int, tuple[str, weakref.ref[tf.Tensor]]] = {}

    def visit(self, operation: Operation) -> None:
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
    """Describe the values of an array in a few words."""
    finite = values[np.isfinite(values)].astype("float64")
    counts = [
        f"{n} {word}"
        for n, word in ((np.isnan(values).sum(), "NaN"), (np.isinf(values).sum(), "inf"))
        if n
    ]
    if finite.size and finite.min() == finite.max():
        counts.insert(0, f"{finite.min():.4g}")
    elif finite.size:
        counts.insert(0, f"{finite.min():.4g} to {finite.max():.4g}")
    return " with ".join([counts[0], " and ".join(counts[1:])]) if len(counts) > 1 else counts[0]
