"""The statements of a file of the user's: which line belongs to which, what each reads and
writes.
"""

import ast
import linecache
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from pathlib import Path
from types import CodeType, GetSetDescriptorType, MemberDescriptorType, ModuleType
from typing import Any, Self, cast

import numpy as np

from nanfix.model.user_code import is_users
from nanfix.records.data_origin import Line
from nanfix.records.notebook_paths import cell_of
from nanfix.source.nonfinite_values import is_of, is_table, numbers

BODIES = ("body", "orelse", "finalbody", "handlers", "cases")  # of a compound statement
APART = (ast.Lambda, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)  # run at another time
TAKING = ("pop", "get")  # methods that give a part of what they are of
MISSING = object()
NO_LOOP = range(0)
FILES = 64  # are kept parsed
Access = ast.Name | ast.Attribute | ast.Subscript  # a variable, or a part of one


@dataclass(frozen=True, eq=False)
class Statement:
    """One statement, or the head of a compound one: the variables and parts of variables that it
    `reads` and `writes`, and the lines of the outermost `loop` that it is in, if any.
    """

    at: Line
    node: ast.AST
    reads: tuple[Access, ...]
    writes: tuple[Access, ...]
    loop: range = NO_LOOP

    @property
    def mentioned(self) -> tuple[Access, ...]:
        return (*self.writes, *self.reads)

    def changes(self, access: ast.AST) -> bool:
        """Say whether it may change what it mentions: it writes that, or is a call for its
        effect.
        """
        return access in self.writes or isinstance(self.node, ast.Expr)

    def acts_on(self, name: str) -> bool:
        """Say whether it writes a variable or a part of it, or calls a method of it for its
        effect.
        """
        call = getattr(self.node, "value", None) if isinstance(self.node, ast.Expr) else None
        method = call.func if isinstance(call, ast.Call) else None
        acting = [*self.writes, *([method] if isinstance(method, ast.Attribute) else [])]
        return any(root(access) == name for access in acting)

    def hands(self, name: str) -> Iterator[tuple[ast.expr, str | int]]:
        """Yield each function that a variable itself is given to in it, with the keyword or the
        position.
        """
        for call in self._calls():
            by_keyword = ((word.arg or "", word.value) for word in call.keywords)
            for place, value in (*enumerate(call.args), *by_keyword):
                if isinstance(value, ast.Name) and value.id == name:
                    yield call.func, place

    def names_anew(self, name: str) -> set[str]:
        """Return the names that it gives to a variable, or to a part of it, beside its own."""
        source = {ast.Assign: "value", ast.AnnAssign: "value", ast.For: "iter"}.get(type(self.node))
        value = None if source is None else getattr(self.node, source)
        shared = value is not None and root(value) == name
        return {root(access) for access in self.writes} - {name} if shared else set()

    @property
    def calls(self) -> bool:
        return any(self._calls())

    def given_to(self, function: str, name: str, position: int) -> tuple[Access, ...]:
        """Return what the argument of a call of a function, or of a method, in it reads."""
        for call in self._calls():
            if function in (getattr(call.func, "attr", ""), getattr(call.func, "id", "")):
                named = [word.value for word in call.keywords if word.arg == name]
                for given in named or call.args[position : position + 1]:
                    return tuple(_accesses(given))
        return ()

    def _calls(self) -> Iterator[ast.Call]:
        parts = [self.node] if isinstance(self.node, ast.expr) else _head(self.node)
        nodes = (node for part in parts for node in ast.walk(part))
        return (node for node in nodes if isinstance(node, ast.Call))


@cache
def statements(code: CodeType) -> Mapping[int, Statement]:
    """Return the statement of each line of a function's code, or of a module's."""
    file = _File.now(code.co_filename)
    if code.co_name != "<lambda>":
        return file.statements
    named = code.co_varnames[: code.co_argcount]
    return {
        line: file.statement(node.body, [node.body], node.body.end_lineno or line)
        for node in ast.walk(file.tree)
        if isinstance(node, ast.Lambda)
        and node.lineno == code.co_firstlineno
        and tuple(argument.arg for argument in node.args.args) == named
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }


def root(access: ast.AST) -> str:
    """Return the name of the variable of which this is a part, "" where it is of none."""
    node = access
    while not isinstance(node, ast.Name):
        if not isinstance(node, (ast.Attribute, ast.Subscript)):
            return ""
        node = node.value  # type: ignore[attr-defined]
    return node.id


def is_part(text: str, others: Iterable[str]) -> bool:
    """Say whether the text of a variable is that of a part of another one."""
    return any(text.startswith((f"{other}[", f"{other}.")) for other in others)


def bases(access: ast.expr) -> Iterator[ast.expr]:
    """Yield what this is a part of, the nearest first."""
    node = access
    while isinstance(node, (ast.Attribute, ast.Subscript)):
        node = node.value
        yield node


def value_of(
    access: ast.AST, names: Mapping[str, object], outside: Mapping[str, object]
) -> tuple[Any, str]:
    """Return the value of a variable or a part of it, and its text; of as much of it as can be had
    without running any of the user's code. MISSING where the name is not bound.
    """
    value, text, _ = _value(access, names, outside)
    return value, text


def is_readable(filename: str) -> bool:
    """Say whether this is a file of the user's that is there to be read."""
    return is_users(filename) and os.path.isfile(filename)


def is_followed(filename: str) -> bool:
    """Say whether this is a file of the user's, or a cell of a notebook that is being run."""
    return is_readable(filename) or (cell_of(filename) is not None and filename in linecache.cache)


def _content(name: str) -> bytes:
    if cell_of(name) is not None:
        return "".join(linecache.getlines(name)).encode()
    return Path(name).read_bytes()


class _File:
    """A file of the user's: its syntax, its lines, and the statement of each line."""

    def __init__(self, name: str):
        self._name, text = Path(name).name, _content(name)
        self.tree, self._lines = ast.parse(text, name), text.splitlines()

    @classmethod
    def now(cls, name: str) -> Self:
        """Return a file as it is now: a module may have been edited, and loaded again."""
        if cell_of(name) is not None:
            return cls._read(name, 0, hash(_content(name)))
        state = os.stat(name)
        return cls._read(name, state.st_mtime_ns, state.st_size)

    @classmethod
    @lru_cache(maxsize=FILES)
    def _read(cls, name: str, time: int, size: int) -> Self:
        return cls(name)

    @cached_property
    def statements(self) -> Mapping[int, Statement]:
        found: dict[int, Statement] = {}
        for node, loop in _outermost_first(self.tree):
            bodies = [inner for name in BODIES for inner in getattr(node, name, [])]
            last = min((inner.lineno for inner in bodies), default=(node.end_lineno or 0) + 1) - 1
            last = max(last, node.lineno)
            made = self.statement(node, _head(node), last, loop)
            found |= dict.fromkeys(range(node.lineno, last + 1), made)
        return found

    def statement(
        self,
        node: ast.stmt | ast.expr,
        parts: Sequence[ast.AST],
        last: int,
        loop: range = NO_LOOP,
    ) -> Statement:
        """Return a statement, or of a compound one its head, which ends on the line `last`;
        `parts` are the expressions in it.
        """
        accesses = [access for part in parts for access in _accesses(part)]
        stored = [access for access in accesses if not isinstance(access.ctx, ast.Load)]
        updated = [node.target] if isinstance(node, ast.AugAssign) else []  # read as well
        lines = self._lines[node.lineno - 1 : last]
        if last == node.end_lineno:  # several may stand in a line
            lines[-1] = lines[-1][: node.end_col_offset]
        lines[0] = lines[0][node.col_offset :]
        text = b" ".join(line.strip() for line in lines).decode(errors="replace")
        return Statement(
            Line(file=self._name, line=node.lineno, text=text),
            node,
            (*(access for access in accesses if access not in stored), *updated),
            tuple(stored),
            loop,
        )


def _head(node: ast.AST) -> list[ast.AST]:
    """Return the expressions of a statement, of a compound one those of its head."""
    if isinstance(node, APART):
        return []
    return [
        part
        for name, field in ast.iter_fields(node)
        if name not in BODIES
        for part in (field if isinstance(field, list) else [field])
        if isinstance(part, ast.AST)
    ]


def _outermost_first(tree: ast.AST, loop: range = NO_LOOP) -> Iterator[tuple[ast.stmt, range]]:
    """Yield every statement with the lines of the outermost loop around it, in its function."""
    for node in ast.iter_child_nodes(tree):
        around = loop
        if isinstance(node, (ast.For, ast.AsyncFor, ast.While)) and not loop:
            around = range(node.lineno, (node.end_lineno or node.lineno) + 1)
        if isinstance(node, ast.stmt):
            yield node, around
        if not isinstance(node, ast.expr):
            yield from _outermost_first(node, NO_LOOP if isinstance(node, APART) else around)


def _accesses(node: ast.AST) -> Iterator[Access]:
    """Yield the variables in an expression, each with as many attributes and indices as stand
    behind it.
    """
    if isinstance(node, APART):
        return
    inner: ast.AST = node
    while isinstance(inner, (ast.Attribute, ast.Subscript)):
        if isinstance(inner, ast.Subscript):
            yield from _accesses(inner.slice)
        inner = inner.value
    if isinstance(inner, ast.Name):
        yield node  # type: ignore[misc]
        return
    for part in _parts(inner):
        yield from _accesses(part)


def _parts(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the parts of an expression; of `table.pop("column")` and the like the column."""
    match node:
        case ast.Call(ast.Attribute(value, name), [first, *others], keywords) if name in TAKING:
            yield ast.copy_location(ast.Subscript(value, first, ast.Load()), node)
            yield from (*others, *keywords)
        case _:
            yield from ast.iter_child_nodes(node)


def _value(
    node: ast.AST, names: Mapping[str, object], outside: Mapping[str, object]
) -> tuple[Any, str, bool]:
    """Return the value, its text, and whether that is all of the expression."""
    if isinstance(node, ast.Name):
        value = names.get(node.id, outside.get(node.id, MISSING))
        return value, node.id, True
    if not isinstance(node, (ast.Attribute, ast.Subscript)):
        return MISSING, "", False
    value, text, whole = _value(node.value, names, outside)
    if not whole or value is MISSING:
        return value, text, whole
    if isinstance(node, ast.Attribute):
        return _attribute(node, value, text)
    known = type(value) in (dict, list, tuple) or is_table(value) or numbers(value) is not None
    index = _index(node.slice, names, outside) if known else MISSING
    if index is MISSING:
        return value, text, False
    try:
        part = cast(Any, value)[index]
    except Exception:  # whatever pandas or TensorFlow raises, the user's own statement raises it
        return value, text, False
    return part, ast.unparse(node), True


def _attribute(node: ast.Attribute, value: object, text: str) -> tuple[Any, str, bool]:
    attributes = _attributes(value)
    if is_of(value, ModuleType) and not is_users(attributes.get("__file__") or "<"):
        return MISSING, text, False  # np.nan is a word, no data
    if is_table(value):
        if node.attr not in cast(Any, value).columns or node.attr in dir(type(value)):
            return value, text, False
        return cast(Any, value)[node.attr], ast.unparse(node), True
    if node.attr in attributes:
        return attributes[node.attr], ast.unparse(node), True
    return value, text, False


def _attributes(value: object) -> Mapping[str, Any]:
    """Return the attributes that an object itself holds; a module that loads itself when it is
    looked at is not loaded, and a `__dict__` that the user has written is not run.
    """
    if is_of(value, type):
        return type.__getattribute__(cast(type, value), "__dict__")
    kinds = [vars(kind)["__dict__"] for kind in type(value).__mro__ if "__dict__" in vars(kind)]
    known = kinds and is_of(kinds[0], GetSetDescriptorType, MemberDescriptorType)
    return kinds[0].__get__(value) if known else {}


def _index(node: ast.AST, names: Mapping[str, object], outside: Mapping[str, object]) -> Any:
    """Return what an index stands for, MISSING where it takes running code to know."""
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        number = _index(node.operand, names, outside)
        return -number if isinstance(number, int) else MISSING
    if isinstance(node, (ast.Tuple, ast.List)):
        parts = [_index(part, names, outside) for part in node.elts]
        if any(part is MISSING for part in parts):
            return MISSING
        return parts if isinstance(node, ast.List) else tuple(parts)
    if isinstance(node, ast.Slice):
        ends = [
            None if part is None else _index(part, names, outside)
            for part in (node.lower, node.upper, node.step)
        ]
        return MISSING if any(end is MISSING for end in ends) else slice(*ends)
    if isinstance(node, (ast.Name, ast.Attribute, ast.Subscript)):
        value, _, whole = _value(node, names, outside)
        usable = is_of(value, str, int, np.integer, slice, list, np.ndarray)
        return value if whole and usable else MISSING
    return MISSING
