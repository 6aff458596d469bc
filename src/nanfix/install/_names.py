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
    layers.Discretization,
    layers.Embedding,
    layers.HashedCrossing,
    layers.Hashing,
    layers.IntegerLookup,
    layers.Masking,
    layers.StringLookup,
)
# And operations, with the operand that is one; of what is compared it may be either.
NAMING = {
    "Bincount": (0,), "Bucketize": (0,), "DenseBincount": (0,), "Equal": (0, 1), "GatherNd": (1,),
    "GatherV2": (1,), "Greater": (0, 1), "GreaterEqual": (0, 1), "Less": (0, 1),
    "LessEqual": (0, 1), "LookupTableFindV2": (1,), "NotEqual": (0, 1), "OneHot": (0,),
    "ResourceGather": (1,), "UnsortedSegmentSum": (1,),
}  # fmt: skip
# What picks columns of its first operand.
PICKING = ("StridedSlice", "Split", "SplitV", "Unpack", "GatherV2")


def takes_names(operation: Operation, marked: Sequence[bool]) -> bool:
    """Say whether an operation takes for names what it is given by the operands that are `marked`.
    What is compared with itself is looked at for NaN.
    """
    if any(isinstance(outer, LOOKUPS) for outer in operation.layers):
        return True
    names = [marked[at] for at in NAMING.get(operation.kind, ()) if at < len(marked)]
    with_itself = len(names) > 1 and all(names)
    return any(names) and not with_itself


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
