"""Writes casts at the head of a function."""

from typing import Any

import libcst as cst

from nanfix.patch._functions import first_statement, function_at
from nanfix.patch._source_files import Files
from nanfix.records.cast_change import CastChange
from nanfix.records.errors import NoPlaceError

TAKEN = 2  # arguments of a loss: targets and outputs


def cast_arguments(files: Files, change: CastChange, alike: Any) -> None:
    """Plan the casts of what a loss is given. Raises NoPlaceError."""
    source = files.source(change.file)
    function = function_at(source, source.line(change.file, change.line))
    if function is None:
        raise NoPlaceError(f"no function is defined in line {change.line}")
    names = [each.name.value for each in function.params.params]
    in_class = any(isinstance(o, cst.ClassDef) for o in source.syntax.ancestors(function))
    given = names[1:] if in_class and names[:1] == ["self"] else names
    if len(given) < TAKEN:
        raise NoPlaceError(f"{function.name.value} does not name what it is given")
    cast = source.written("keras.ops.cast")
    lines = [f'{name} = {cast}({name}, "{change.dtype}")' for name in given[:TAKEN]]
    source.insert(first_statement(function), "before", lines)
