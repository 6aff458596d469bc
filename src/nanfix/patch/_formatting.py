"""How changed calls, lists and modules are laid out: as their neighbors are, comments
where they stood.
"""

import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import libcst as cst

from nanfix.records.errors import NoPlaceError

WIDTH = 100
_TIGHT = cst.AssignEqual(
    whitespace_before=cst.SimpleWhitespace(""), whitespace_after=cst.SimpleWhitespace("")
)


@dataclass(frozen=True)
class Beside:
    """New elements of a list, before or after the one that has stood at an index."""

    index: int
    side: str
    new: tuple[cst.BaseExpression, ...]


def argument(call: cst.Call, name: str, position: int | None = None) -> cst.Arg | None:
    """Return the argument of a call, given by name or at its position.

    Raises:
        NoPlaceError: it may be among arguments that are unpacked.
    """
    for given in call.args:
        if given.keyword is not None and given.keyword.value == name:
            return given
    plain = list(takewhile(lambda given: given.keyword is None and not given.star, call.args))
    if position is not None and position < len(plain):
        return plain[position]
    if any(given.star for given in call.args):
        raise NoPlaceError("its arguments are unpacked from a variable")
    return None


def with_argument(
    call: cst.Call, name: str, value: cst.BaseExpression | None, position: int | None = None
) -> cst.Call:
    """Return a call with the argument set, added at the end where there is none, or
    taken away for None.

    One that stands at its position becomes None, so that those behind it stay at theirs.
    """
    given = argument(call, name, position)
    if given is not None and given.keyword is None:
        value = value or cst.Name("None")
    if given is None:
        return (
            call
            if value is None
            else _appended(call, cst.Arg(value, keyword=cst.Name(name), equal=_TIGHT))
        )
    if value is not None:
        return call.with_changes(
            args=[a.with_changes(value=value) if a is given else a for a in call.args]
        )
    kept = [a for a in call.args if a is not given]
    if given is call.args[-1] and kept:
        kept[-1] = kept[-1].with_changes(
            comma=given.comma, whitespace_after_arg=given.whitespace_after_arg
        )
    return call.with_changes(args=kept)


def with_elements(items: Any, beside: Iterable[Beside]) -> Any:
    """Return a list with elements put beside its own."""
    elements = list(items.elements)
    opened = items.lbracket.whitespace_after if isinstance(items, cst.List) else None
    between = (
        _plain(opened)
        if isinstance(opened, cst.ParenthesizedWhitespace)
        else cst.SimpleWhitespace(" ")
    )
    # From the last to the first, so that the indices of those still to be done stay what they are.
    for place, new in sorted(
        ((each.index + (each.side == "after"), each.new) for each in beside),
        key=_place,
        reverse=True,
    ):
        added = [cst.Element(value, comma=cst.Comma(whitespace_after=between)) for value in new]
        if place == len(elements):
            last = elements[-1]
            comma = last.comma if isinstance(last.comma, cst.Comma) else cst.Comma()
            closed = items.rbracket.whitespace_before if isinstance(items, cst.List) else None
            elements[-1] = last.with_changes(
                comma=comma.with_changes(whitespace_after=_continued(closed, between))
            )
            added[-1] = added[-1].with_changes(comma=_last_comma(last.comma))
            if isinstance(closed, cst.ParenthesizedWhitespace):
                items = items.with_changes(
                    rbracket=items.rbracket.with_changes(whitespace_before=_plain(closed))
                )
        elements[place:place] = added
    return items.with_changes(elements=elements)


def _place(given: tuple[int, object]) -> int:
    return given[0]


def _appended(call: cst.Call, new: cst.Arg) -> cst.Call:
    """Return a call with one more argument, on a line of its own where the others are."""
    if not call.args:
        return call.with_changes(args=[new])
    *before, last = call.args
    opened = call.whitespace_before_args
    between = (
        _plain(opened)
        if isinstance(opened, cst.ParenthesizedWhitespace)
        else cst.SimpleWhitespace(" ")
    )
    comma = last.comma if isinstance(last.comma, cst.Comma) else cst.Comma()
    new = new.with_changes(
        comma=_last_comma(last.comma), whitespace_after_arg=last.whitespace_after_arg
    )
    separated = comma.with_changes(whitespace_after=_continued(comma.whitespace_after, between))
    last = last.with_changes(comma=separated, whitespace_after_arg=cst.SimpleWhitespace(""))
    return call.with_changes(args=[*before, last, new])


def _plain(space: cst.ParenthesizedWhitespace) -> cst.ParenthesizedWhitespace:
    """Return a line break without the comments in it."""
    return space.with_changes(first_line=cst.TrailingWhitespace(), empty_lines=[])


def _continued(space: object, between: Any) -> Any:
    """Return `between`, with the comment that stood on the rest of the line."""
    if isinstance(space, cst.ParenthesizedWhitespace) and isinstance(
        between, cst.ParenthesizedWhitespace
    ):
        return between.with_changes(first_line=space.first_line)
    return between


def _last_comma(comma: cst.Comma | cst.MaybeSentinel) -> cst.Comma | cst.MaybeSentinel:
    """Return the comma, if any, of what is last, without a comment that belongs to what
    was last before.
    """
    if isinstance(comma, cst.Comma) and isinstance(
        comma.whitespace_after, cst.ParenthesizedWhitespace
    ):
        return comma.with_changes(whitespace_after=_plain(comma.whitespace_after))
    return comma


def wrapped(numbers: Sequence[str]) -> str:
    """Return a list of numbers, on as many lines as it takes."""
    whole = f"[{', '.join(numbers)}]"
    if len(whole) <= WIDTH - 20:
        return whole
    indent = " " * 4
    lines = textwrap.fill(
        f"{whole[1:-1]},",
        WIDTH,
        initial_indent=indent,
        subsequent_indent=indent,
        break_on_hyphens=False,
    )
    return f"[\n{lines}\n]"


def header(
    parts: Sequence[str], apart: int
) -> list[cst.SimpleStatementLine | cst.BaseCompoundStatement]:
    """Return the statements of the parts; between definitions there are blank lines,
    constants stand together.
    """
    made = []
    for index, part in enumerate(parts):
        first, *others = cst.parse_module(part + "\n").body
        lines = blank_lines(apart) if index == 0 or apart > 1 else []
        made += [first.with_changes(leading_lines=[*lines, *first.leading_lines]), *others]
    return made


def blank_lines(count: int) -> list[cst.EmptyLine]:
    return [cst.EmptyLine(indent=False) for _ in range(count)]


def after_imports(module: cst.Module, first: int) -> int:
    """Return the position, among the statements of a module, behind the last import in front of the
    `first` that is changed, or behind its docstring.
    """
    place = 0
    for index, line in enumerate(module.body[:first]):
        parts = line.body if isinstance(line, cst.SimpleStatementLine) else []
        docstring = index == 0 and bool(parts) and isinstance(parts[0], cst.Expr)
        if docstring or any(isinstance(part, cst.Import | cst.ImportFrom) for part in parts):
            place = index + 1
    return place
