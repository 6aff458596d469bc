"""Looks back, from the line that takes a constant which is not finite, for the variable that holds
it and for the statement that made it.

The function that made it has returned by then, so what counts is the text: a name that one
statement of the file alone writes, and no function of it takes as an argument.
"""

import ast
from collections.abc import Iterator
from types import CodeType, FrameType
from typing import Any

import numpy as np

from nanfix.records.data_origin import DataOrigin
from nanfix.source._statements import (
    MISSING,
    Access,
    Statement,
    is_readable,
    root,
    statements,
    value_of,
)
from nanfix.source.nonfinite_values import holes, numbers

FARTHEST = 50  # statements are looked back at; without a limit two could name each other
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def holder(frame: FrameType, constant: np.ndarray) -> tuple[str, Any] | None:
    """Return the variable, as it is written on the line that a frame executes, whose numbers are
    those of a constant, and its value; None where none is known.
    """
    for access in _read_at(frame):
        value, text = value_of(access, frame.f_locals, frame.f_globals)
        array = None if value is MISSING else numbers(value)
        if array is not None and _same_holes(array, constant):
            return text, value
    return None


def made(frame: FrameType, name: str, value: Any) -> DataOrigin | None:
    """Return the statement that made what a variable of a frame holds, None where that is not
    certain.
    """
    found = None
    for _ in range(FARTHEST):
        writer = _only_writer(frame.f_code, name)
        if writer is None:
            break
        bad = holes(value)
        if not bad:
            break
        found = DataOrigin(argument="constant", at=writer.at, name=name, holes=bad)
        earlier = next(_not_finite(frame, writer, name), None)
        if earlier is None:
            break
        name, value = earlier
    return found


def _read_at(frame: FrameType) -> tuple[Access, ...]:
    code = frame.f_code
    found = statements(code).get(frame.f_lineno) if is_readable(code.co_filename) else None
    return () if found is None else found.reads


def _same_holes(array: np.ndarray, constant: np.ndarray) -> bool:
    """Say whether the same numbers of two arrays are not finite, whatever their shapes."""
    return array.size == constant.size and np.array_equal(
        np.isfinite(array).reshape(-1), np.isfinite(constant).reshape(-1)
    )


def _only_writer(code: CodeType, name: str) -> Statement | None:
    """Return the statement of a file that alone writes a variable; None where several do, or a
    function is given it.
    """
    if not is_readable(code.co_filename):
        return None
    every = dict.fromkeys(statements(code).values())
    given = {
        argument.arg
        for statement in every
        if isinstance(statement.node, FUNCTIONS)
        for argument in (*statement.node.args.args, *statement.node.args.kwonlyargs)
    }
    writers = [each for each in every if any(ast.unparse(part) == name for part in each.writes)]
    return writers[0] if len(writers) == 1 and name not in given else None


def _not_finite(frame: FrameType, writer: Statement, name: str) -> Iterator[tuple[str, Any]]:
    """Yield the variables that a statement reads and that are not finite, as far as they are still
    there.
    """
    for access in writer.reads:
        value, text = value_of(access, frame.f_locals, frame.f_globals)
        if root(access) and text != name and value is not MISSING and holes(value):
            yield text, value
