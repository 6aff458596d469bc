"""Write finite numbers into the source in the place of those of a constant that are not:
`log_q` becomes `np.nan_to_num(log_q, neginf=-8.5)` on the line that takes it.
"""

from typing import Any

import libcst as cst

from nanfix.model.operands import as_written
from nanfix.patch._source_files import Source
from nanfix.records.errors import NoPlaceError
from nanfix.records.source_changes import GuardChange


def write_constants(source: Source, change: GuardChange) -> None:
    """Plan what is written for each of these constants, wherever it stands on the line.

    Raises:
        NoPlaceError: no variable on the line is known to hold one.
    """
    instead, line = dict(change.given), source.line(change.file, change.line)
    found = [
        node
        for node in source.syntax.within(source.syntax.module)
        if isinstance(node, cst.Name | cst.Attribute | cst.Subscript)
        and line in source.syntax.lines(node)
        and as_written(source.syntax.code(node)) in instead
        and _is_read(source, node)
    ]
    if not found:
        raise NoPlaceError(f"line {change.line} names no variable that is known to hold it")
    for node in found:
        text = source.written(instead[as_written(source.syntax.code(node))])

        def written(updated: cst.BaseExpression, text: str = text) -> cst.BaseExpression:
            return cst.parse_expression(text.format(x=source.syntax.code(updated)))

        source.change(node, written)


def _is_read(source: Source, node: cst.BaseExpression) -> bool:
    """Say whether an expression is a value, and not the name of an argument or an attribute, nor
    what is written.
    """
    around: Any = source.syntax.parent(node)
    named = isinstance(around, cst.Arg) and around.keyword is node
    attribute = isinstance(around, cst.Attribute) and around.attr is node
    return not (named or attribute or isinstance(around, cst.AssignTarget | cst.Param))
