"""How near numbers come to the edge of the domain of an operation that fails there."""

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

# How far inside of a domain a number is; one that is outside has no distance above 0.
DISTANCE: dict[Domain, Callable[[np.ndarray], np.ndarray]] = {
    ABOVE_ZERO: lambda x: x,
    ABOVE_MINUS_ONE: lambda x: x + 1,
    AWAY_FROM_ZERO: np.abs,
    INSIDE_ONE: lambda x: 1 - np.abs(x),
}


def edge_beside(operation: UnsafeOperation, operand: np.ndarray) -> float | None:
    """Return half of the least distance from the edge of its domain at which an operation was given
    numbers, as statisticians fill in for counts of 0.

    What is held there stands beside them, where one that is held far nearer may stand far outside.
    None for an operation that is bounded beside the edge, and where all numbers are outside.
    """
    if not operation.unbounded or operation.domain not in DISTANCE:
        return None
    operand = np.abs(operand) if np.iscomplexobj(operand) else operand
    distances = DISTANCE[operation.domain](operand[np.isfinite(operand)].astype("float64"))
    inside = distances[distances > 0]
    if not inside.size:
        return None
    return float(f"{max(inside.min() / 2, min(filter(None, operation.epsilons))):.1g}")
