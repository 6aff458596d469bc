"""How near numbers come to the edge of the domain of an operation that fails there."""

import math
from collections.abc import Callable

import numpy as np

from nanfix.records.domains import (
    ABOVE_MINUS_ONE,
    ABOVE_ZERO,
    AWAY_FROM_ZERO,
    INSIDE_ONE,
    Domain,
)
from nanfix.records.unsafe_operations import UnsafeOperation

WIDEST = 0.1  # nothing that is more is taken for the edge of what was given
# How far inside of a domain a number is; one that is outside has no distance above 0.
DISTANCE: dict[Domain, Callable[[np.ndarray], np.ndarray]] = {
    ABOVE_ZERO: lambda x: x,
    ABOVE_MINUS_ONE: lambda x: x + 1,
    AWAY_FROM_ZERO: np.abs,
    INSIDE_ONE: lambda x: 1 - np.abs(x),
}


def edge_beside(operation: UnsafeOperation, operand: np.ndarray) -> float | None:
    """Return the power of ten just below the least distance from the edge of its domain at which an
    operation was given numbers.

    What is held there stands beside them, where one that is held far nearer may stand far outside.
    None for an operation that is bounded beside the edge, and where all numbers are outside.
    """
    if not operation.unbounded or operation.domain not in DISTANCE:
        return None
    distances = DISTANCE[operation.domain](operand[np.isfinite(operand)].astype("float64"))
    inside = distances[distances > 0]
    if not inside.size:
        return None
    below = 10.0 ** (math.ceil(math.log10(inside.min())) - 1)
    return float(f"{min(WIDEST, max(below, min(filter(None, operation.epsilons)))):g}")
