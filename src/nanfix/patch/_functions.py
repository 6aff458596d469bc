"""Functions and classes of a source, and where statements go in them."""

import libcst as cst

from nanfix.patch._source_files import Source
from nanfix.records.errors import NoPlaceError


def function_at(source: Source, line: int, name: str | None = None) -> cst.FunctionDef | None:
    """Return the function, of this name where one is given, whose head holds a line of the source
    as it is now.
    """
    found = (
        node
        for node in source.syntax.within(source.syntax.module)
        if isinstance(node, cst.FunctionDef) and name in (None, node.name.value)
    )
    return next((each for each in found if line in head(source, each)), None)


def head(source: Source, function: cst.FunctionDef) -> range:
    """Return the lines from the decorators of a function to the one in front of its
    first statement.
    """
    lines = source.syntax.lines(function)
    decorators = [source.syntax.lines(decorator).start for decorator in function.decorators]
    return range(
        min([lines.start, *decorators]), source.syntax.lines(block(function).body[0]).start + 1
    )


def block(owner: cst.FunctionDef | cst.ClassDef) -> cst.IndentedBlock:
    if not isinstance(owner.body, cst.IndentedBlock):
        raise NoPlaceError(f"{owner.name.value} is written on one line")
    return owner.body


def first_statement(function: cst.FunctionDef) -> cst.CSTNode:
    """Return the first statement behind the docstring."""
    body = block(function).body
    return body[1] if function.get_docstring() is not None and len(body) > 1 else body[0]
