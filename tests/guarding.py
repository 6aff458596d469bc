"""Guards of the operations on a line of a test."""

from pathlib import Path

from nanfix.changes.guards import Guard

E = 1e-4


def line_of(function, offset=0):
    """Return "file.py:LINE" of the line `offset` below the head of a function."""
    code = function.__code__
    return f"{Path(code.co_filename).name}:{code.co_firstlineno + offset}"


def guard_of(operation, function, offset=0, epsilon=E):
    return Guard(operation, line_of(function, offset), None, epsilon)
