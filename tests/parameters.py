"""Parameters of which `make test` takes a part and `make soak` takes all."""

import pytest


def shortened(values, kept):
    """Return all `values` as parameters; a test with one that is not `kept` is a long one."""
    assert all(value in values for value in kept), "kept, but not among the values"
    return [
        value
        if value in kept
        else pytest.param(
            *(value if isinstance(value, tuple) else (value,)), marks=pytest.mark.soak
        )
        for value in values
    ]
