"""The edge at which a guard holds numbers stands just outside of those that were given."""

import numpy as np
import pytest

from nanfix.explain._edges import edge_beside
from nanfix.records.unsafe_operations import SQUEEZED, UNSAFE_OPERATIONS


@pytest.mark.parametrize(
    ("operation", "given", "edge"),
    [
        ("Log", [-0.01, 0.02, 6.0], 0.01),
        ("Log", [0.0, 0.011, 6.0], 0.005),
        ("Log", [0.0, 1.0, 12.0], 0.5),
        ("Log", [0.0, 1e-30], 1e-10),
        ("Log", [0.0, 500.0], 200.0),
        ("Log", [0.0, -1.0, np.nan], None),
        ("Log1p", [-1.0, -0.98], 0.01),
        ("Rsqrt", [0.0, 0.5], 0.2),
        ("RealDiv", [0.0, -0.5, 4.0], 0.2),
        (SQUEEZED, [0.0, 1 / 12], 0.04),
        ("Atanh", [1.0, -0.998], 0.001),
        ("Sqrt", [-1.0, 0.5], None),
        ("Exp", [100.0], None),
    ],
)
def test_it_is_half_of_the_least_distance(operation, given, edge):
    assert edge_beside(UNSAFE_OPERATIONS[operation], np.float32(given)) == edge
