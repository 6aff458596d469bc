"""Numbers that have to stay as they are: names of something, such as classes, words or rows of a
table, and quantities of which a formula takes the logarithm or the sine.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from keras import layers

from nanfix.model.operations import Operation

# Layers for which a number is the name of something.
LOOKUPS = (
    layers.CategoryEncoding,
    layers.Embedding,
    layers.HashedCrossing,
    layers.Hashing,
    layers.IntegerLookup,
    layers.StringLookup,
)
# And operations, with the operand that is one.
NAMING = {
    "Bincount": 0, "DenseBincount": 0, "GatherNd": 1, "GatherV2": 1,
    "LookupTableFindV2": 1, "OneHot": 0, "ResourceGather": 1, "UnsortedSegmentSum": 1,
}  # fmt: skip
# What makes other names of names, as by an offset or a rest.
RENAMING = {
    "AddV2", "Cast", "ExpandDims", "Floor", "FloorDiv", "FloorMod", "Identity", "Maximum",
    "Minimum", "Mul", "Neg", "RealDiv", "Reshape", "Round", "Squeeze", "Sub",
}  # fmt: skip
# What a model computes of a quantity in its own unit, as the sine of an hour, which gives numbers
# of unit size or is not defined of others. Of a great exponential a scaling is the cure.
FORMULAS = {"Acos", "Asin", "Atan2", "Cos", "Log", "Log1p", "Rsqrt", "Sin", "Sqrt", "Tan"}
# What passes its operand on unchanged, but for its shape, and what takes none of its numbers.
PASSING = {"Cast", "Identity", "Reshape", "ExpandDims", "Squeeze", "StopGradient"}
IGNORED = {"Shape", "Rank", "Size", "ZerosLike"}
COMPARING = ("Equal", "Greater", "GreaterEqual", "Less", "LessEqual", "NotEqual")
BINNING = "Bucketize"
# What picks columns of its first operand.
PICKING = ("StridedSlice", "Split", "SplitV", "Unpack", "GatherV2")

Mark = tuple[str, frozenset[int] | None]  # the name of an input, and columns of it where not all


@dataclass
class Fixed:
    """Follows what is computed of inputs, as `codes + offset`, up to where it is looked up, or a
    formula takes it.
    """

    looked_up: set[Mark] = field(default_factory=set)
    _renamed: dict[int, Mark] = field(default_factory=dict)  # what was computed of them, by id
    _in_formulas: set[Mark] = field(default_factory=set)
    _as_given: set[Mark] = field(default_factory=set)  # what goes into something else, too

    def visit(self, operation: Operation, given: Mapping[int, Mark]) -> None:
        """Follow the inputs, and what was picked of them, which are `given` by id."""
        ids = [id(tensor) for tensor in operation.inputs]
        found = [self._renamed.get(each, given.get(each)) for each in ids]
        marks = {mark for mark in found if mark is not None}
        followed = operation.kind in (*PICKING, *IGNORED, *PASSING)
        if operation.kind in FORMULAS:
            self._in_formulas |= marks
        elif not followed and (len(marks) > 1 or operation.kind not in RENAMING):
            self._as_given |= marks
        if len(marks) != 1:
            return
        (mark,) = marks
        if operation.kind in RENAMING:
            self._renamed.update({id(tensor): mark for tensor in operation.outputs})
        elif takes_names(operation, [each == mark for each in found], whole=False):
            self.looked_up.add(mark)

    def of(self, name: str) -> tuple[bool, frozenset[int]]:
        """Say whether all of an input has to stay as it is, and which of its columns."""
        columns = [of for n, of in (*self.looked_up, *self._formulas_alone()) if n == name]
        some = frozenset().union(*(each for each in columns if each is not None))
        return None in columns, some

    def _formulas_alone(self) -> Iterator[Mark]:
        for name, columns in self._in_formulas:
            given = [of for n, of in self._as_given if n == name]
            apart = [of for of in given if of is not None]
            if columns is not None and len(apart) == len(given):
                yield name, columns.difference(*apart)
            elif not given:
                yield name, columns


def takes_names(operation: Operation, marked: Sequence[bool], *, whole: bool) -> bool:
    """Say whether an operation takes for names what it is given by the operands that are `marked`:
    looks something up by it or, where it is `whole` numbers, as lengths and classes are, compares
    it with others. A measured value is a value whatever threshold it is compared with. What is
    compared with itself is looked at for NaN.
    """
    if any(isinstance(outer, LOOKUPS) for outer in operation.layers):
        return True
    if operation.kind in (*COMPARING, BINNING):
        compared = operation.kind == BINNING or not all(marked)
        return whole and compared and not compares_with_zero(operation, marked)
    at = NAMING.get(operation.kind, len(marked))
    return at < len(marked) and marked[at]


def compares_with_zero(operation: Operation, marked: Sequence[bool]) -> bool:
    """Say whether an operation compares what it is given by the operand that is `marked` with 0, as
    where that is padding: so it can go on doing where 0 stays 0.
    """
    others = [np.asarray(x) for x, own in zip(operation.inputs, marked, strict=True) if not own]
    compared = operation.kind in COMPARING and len(others) == 1
    return compared and not others[0].any()


def columns_in(picked: np.ndarray, table: np.ndarray) -> frozenset[int] | None:
    """Return which columns of a table something holds that was picked of it, told by its numbers;
    None where it has other rows.
    """
    picked = picked if picked.ndim == table.ndim else picked[..., None]
    if table.ndim < 2 or picked.shape[:-1] != table.shape[:-1]:
        return None
    pairs = ((c, at) for c in range(table.shape[-1]) for at in range(picked.shape[-1]))
    return frozenset(
        c for c, at in pairs if np.array_equal(table[..., c], picked[..., at], equal_nan=True)
    )
