"""Looks back, from what the user's variables hold now, for the statement that made NaN or inf in
the data.

No second run and nothing to pay beforehand, but only what is certain: a variable that one statement
alone has written, of others that are finite and that no later statement has written.
"""

import ast
import inspect
from collections.abc import Iterable, Iterator
from types import FrameType
from typing import Any

from nanfix.model.user_code import is_users
from nanfix.records.data_origin import Argument, DataOrigin, Holes
from nanfix.source._statements import (
    MISSING,
    Access,
    Statement,
    is_part,
    is_readable,
    root,
    statements,
    value_of,
)
from nanfix.source.nonfinite_values import holes

FARTHEST = 50  # statements are looked back at; without a limit two could name each other


def look_back(frame: FrameType, function: str, argument: Argument) -> DataOrigin | None:
    """Return where what is not finite in an argument of a call comes from; None where that is not
    certain.

    Args:
        frame: the user's, in which the call is.
        function: what is called.
        argument: of the call.
    """
    call = _statement(frame)
    given = () if call is None else call.given_to(function, argument.keyword, argument.position)
    found = _made(frame, given, FARTHEST)
    return None if found is None else found.model_copy(update={"argument": argument.name})


def _statement(frame: FrameType) -> Statement | None:
    """Return the statement that a frame is in, of a file that is there to be read."""
    code = frame.f_code
    return statements(code).get(frame.f_lineno) if is_readable(code.co_filename) else None


def _made(frame: FrameType, accesses: Iterable[Access], left: int) -> DataOrigin | None:
    """Return where the first of some variables that is not finite comes from."""
    for access in accesses:
        value, _ = value_of(access, frame.f_locals, frame.f_globals)
        if value is not MISSING and holes(value) and left:
            return _written(frame, root(access), left - 1)
    return None


def _written(frame: FrameType, name: str, left: int) -> DataOrigin | None:
    """Return where a variable that is not finite comes from."""
    code, writers = frame.f_code, list(_writers(frame, name))
    if name in code.co_varnames[: code.co_argcount]:
        return None if writers else _given(frame, name, left)
    if len(writers) != 1 or writers[0].loop:
        return None
    (writer,) = writers
    reads: dict[str, Holes | None] = {}
    for access in writer.reads:
        value, text = value_of(access, frame.f_locals, frame.f_globals)
        reads[text] = None if value is MISSING else holes(value)
        since = [each for each in _writers(frame, root(access)) if each.at.line >= writer.at.line]
        others = [each for each in since if each is not writer or each.acts_on(root(access))]
        if reads[text] is not None and others:
            return None  # it was another then
    if any(reads.values()):
        return _made(frame, writer.reads, left)
    written = next(access for access in writer.writes if root(access) == name)
    value, text = value_of(written, frame.f_locals, frame.f_globals)
    bad = holes(value)
    finite = tuple(
        read for read, seen in reads.items() if seen is not None and not is_part(read, reads)
    )
    given = not finite and writer.calls
    return (
        DataOrigin(argument="", at=writer.at, name=text, holes=bad, finite=finite, given=given)
        if bad
        else None
    )


def _given(frame: FrameType, name: str, left: int) -> DataOrigin | None:
    """Return where an argument comes from that a function was given."""
    names, caller = frame.f_code.co_varnames, frame.f_back
    call = None if caller is None else _statement(caller)
    if caller is None or call is None:
        return None
    position = names.index(name) - (names[0] in ("self", "cls"))
    return _made(caller, call.given_to(frame.f_code.co_name, name, position), left)


def _writers(frame: FrameType, name: str) -> Iterator[Statement]:
    """Yield the statements of a function, or of a module, that write a variable or a part of it, or
    may do so: under another name, or in a function of the user's that is given it.
    """
    own = {line for *_, line in frame.f_code.co_lines() if line}
    of_lines = statements(frame.f_code)
    inside = list(dict.fromkeys(each for line, each in of_lines.items() if line in own))
    others = {other: each for each in inside for other in each.names_anew(name)}
    for statement in inside:
        under_another = (statement.acts_on(o) and statement is not at for o, at in others.items())
        handed = statement is not of_lines.get(frame.f_lineno) and _hands_on(frame, statement, name)
        if statement.acts_on(name) or any(under_another) or handed:
            yield statement


def _hands_on(frame: FrameType, statement: Statement, name: str) -> bool:
    """Say whether a statement gives a variable to a function that may write it: one of the user's,
    or one of numpy's that is told to.
    """
    for function, place in statement.hands(name):
        callee = _callee(frame, function)
        code = getattr(callee, "__code__", None)
        for_effect = place == 0 and isinstance(statement.node, ast.Expr)
        of_numpy = str(getattr(callee, "__module__", "")).partition(".")[0] == "numpy"
        if place == "out" or (code is not None and is_users(code.co_filename)):
            return True
        if for_effect and of_numpy:
            return True
    return False


def _callee(frame: FrameType, function: ast.expr) -> Any:
    """Return what a call calls, None where it takes running code to know."""
    owner = function.value if isinstance(function, ast.Attribute) else function
    value, text = value_of(owner, frame.f_locals, frame.f_globals)
    if value is MISSING or text != ast.unparse(owner):
        return None
    if isinstance(function, ast.Attribute):
        value = inspect.getattr_static(value, function.attr, None)
    return inspect.unwrap(value.__init__ if isinstance(value, type) else value)
