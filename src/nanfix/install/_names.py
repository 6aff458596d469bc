"""Numbers that are names of something, such as classes, words or rows of a table: a scaling would
name something else.
"""

from collections.abc import Sequence

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
    "Minimum", "Mul", "Reshape", "Round", "Squeeze", "Sub",
}  # fmt: skip
COMPARING = ("Equal", "Greater", "GreaterEqual", "Less", "LessEqual", "NotEqual")
BINNING = "Bucketize"
# What picks columns of its first operand.
PICKING = ("StridedSlice", "Split", "SplitV", "Unpack", "GatherV2")


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
