"""A Python source file into which changes are planned and then made at once, everything else of it kept as it is."""

import functools
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import libcst as cst
from libcst.metadata import MetadataWrapper, ParentNodeProvider, PositionProvider

from nanfix.source import Made, Span

OTHER_NAMES = {"InputLayer": "Input", "Functional": "Model"}  # the function or class of Keras that a script calls for it
PACKAGES = {"keras": "import keras", "np": "import numpy as np", "tf": "import tensorflow as tf"}
FULL = {"np": "numpy", "tf": "tensorflow"}
INLINE = 4  # numbers that are written where they are used; more of them become a constant of the module
WIDTH = 100
NOTHING: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True)
class _Beside:
    """New elements of a list, before or after the one that has stood at an index."""

    index: int
    side: str
    new: tuple[cst.BaseExpression, ...]


class NoPlaceError(Exception):
    """A change that has no place in this source; the text says why."""


class Source:
    """A parsed file. Nodes found in it are the keys under which changes are planned; `content` is the file with all of them.

    Raises:
        NoPlaceError: the file is no Python that libcst can parse.
    """

    def __init__(self, content: bytes):
        try:
            wrapper = MetadataWrapper(cst.parse_module(content))
        except (cst.ParserSyntaxError, UnicodeDecodeError) as error:
            raise NoPlaceError("libcst cannot parse the file") from error
        self.module = wrapper.module
        self._positions = wrapper.resolve(PositionProvider)
        self._parents = wrapper.resolve(ParentNodeProvider)
        self._lines = re.split("\r\n|\r|\n", content.decode(self.module.encoding))
        self._calls = {self._end(node): node for node in self._positions if isinstance(node, cst.Call)}
        self._names = {node.value for node in self._positions if isinstance(node, cst.Name)}
        self._known, self._aliases = _imported(self.module)
        strings = [node.value[0] for node in self._positions if isinstance(node, cst.SimpleString)]
        self._quote = "'" if strings.count("'") > strings.count('"') else '"'
        self._changes: dict[cst.CSTNode, list[Callable[[Any], Any]]] = defaultdict(list)
        self._before: dict[cst.CSTNode, list[str]] = defaultdict(list)
        self._after: dict[cst.CSTNode, list[str]] = defaultdict(list)
        self._beside: dict[cst.CSTNode, list[_Beside]] = defaultdict(list)
        self._imports: list[str] = []
        self._constants: list[str] = []
        self._definitions: list[str] = []

    @property
    def content(self) -> bytes:
        """The file with every planned change in it."""
        for items, beside in self._beside.items():
            self._changes[items].insert(0, functools.partial(_with_elements, beside=beside))
        changed = self.module.visit(_Changer(self._changes, self._before, self._after))
        place = _after_imports(changed)
        header = [*_header(self._imports, 0), *_header(self._constants, 1), *_header(self._definitions, 2)]
        rest = list(changed.body[place:])
        if rest and header:
            apart = 2 if self._definitions else 1 if self._constants else 0
            blank = [line for line in rest[0].leading_lines if line.comment is None]
            rest[0] = rest[0].with_changes(leading_lines=[*_blank(apart - len(blank)), *rest[0].leading_lines])
        return changed.with_changes(body=[*changed.body[:place], *header, *rest]).bytes

    # Finding

    def call(self, made: Made) -> cst.Call:
        """Return the call that stands at the place of `made`, or the only one of that name inside it."""
        whole = self.call_at(made)
        if whole is None:
            raise NoPlaceError("no call stands where the script made it")
        if self._calls_for(whole, made.callee):
            return whole
        inside = [node for node in self._inside(whole) if isinstance(node, cst.Call) and self._calls_for(node, made.callee)]
        if len(inside) != 1:
            raise NoPlaceError(f"{self.code(whole.func)} makes it, and no single call of {made.callee} stands there")
        return inside[0]

    def call_at(self, made: Made) -> cst.Call | None:
        """Return the call that ends at the place of `made`, whatever it calls."""
        return self._calls.get(self._character(made.place))

    def parent(self, node: cst.CSTNode) -> cst.CSTNode:
        return self._parents[node]

    def ancestors(self, node: cst.CSTNode) -> Iterator[cst.CSTNode]:
        while node in self._parents:
            node = self._parents[node]
            yield node

    def statement(self, node: cst.CSTNode) -> cst.SimpleStatementLine:
        """Return the statement a node stands in, in front of which others can be put without being run at another time."""
        for outer in self.ancestors(node):
            if isinstance(outer, cst.Lambda | cst.BaseComp | cst.BooleanOperation | cst.IfExp):
                break
            if isinstance(outer, cst.SimpleStatementLine):
                return outer
            if isinstance(outer, cst.BaseCompoundStatement | cst.SimpleStatementSuite):
                break
        raise NoPlaceError("no statement can be put in front of it")

    def scope(self, node: cst.CSTNode) -> cst.CSTNode:
        """Return the function or module whose names a node uses."""
        return next(outer for outer in self.ancestors(node) if isinstance(outer, cst.FunctionDef | cst.Module))

    def within(self, node: cst.CSTNode) -> list[cst.CSTNode]:
        """Return a node and all inside it, in the order of the source."""
        return [node, *self._inside(node)]

    def start(self, node: cst.CSTNode) -> tuple[int, int]:
        """Return line and column where a node begins."""
        position = self._positions[node].start
        return position.line, position.column

    def lines(self, node: cst.CSTNode) -> range:
        """Return the lines that a node stands on."""
        position = self._positions[node]
        return range(position.start.line, position.end.line + 1)

    def code(self, node: cst.CSTNode) -> str:
        return self.module.code_for_node(node)

    def called(self, node: cst.CSTNode) -> str:
        """Return the last name of what a call calls, as the library has it."""
        function = node.func if isinstance(node, cst.Call) else None
        if isinstance(function, cst.Attribute):
            return function.attr.value
        return self._aliases.get(function.value, function.value) if isinstance(function, cst.Name) else ""

    def package(self, node: cst.BaseExpression) -> str:
        """Return what a dotted name stands for in full, as far as the imports tell: "tensorflow.math.log"."""
        head, _, rest = self.code(node).partition(".")
        full = next((full for full, name in self._known.items() if name == head), head)
        return f"{full}.{rest}" if rest else full

    # Writing

    def expression(self, text: str, vectors: Mapping[str, str] = NOTHING) -> cst.BaseExpression:
        """Return an expression under the names that this file has for the packages in it; what it lacks will be imported.

        `vectors` says what is written for the vectors that it names.
        """
        replaced = cst.parse_expression(text).visit(_Localized(self._local, vectors, self._quote))
        assert isinstance(replaced, cst.BaseExpression), "an expression stays one"
        return replaced

    def written(self, text: str, vectors: Mapping[str, str] = NOTHING) -> str:
        """Return an expression as in `expression`, as text."""
        return self.code(self.expression(text, vectors))

    def localized(self, code: str) -> str:
        """Return statements under the names that this file has for the packages in them."""
        return cst.parse_module(code).visit(_Localized(self._local, NOTHING, self._quote)).code

    def vectors(self, numbers: Mapping[str, Sequence[float]]) -> dict[str, str]:
        """Return what is written for vectors: the numbers of a short one, for a long one the name of a new constant."""
        written = {}
        for name, values in numbers.items():
            told = [f"{value:.7g}" for value in values]
            if len(told) <= INLINE:
                written[name] = f"[{', '.join(told)}]"
            else:
                written[name] = self.unused(f"INPUT_{name}")
                self._constants.append(f"{written[name]} = {_wrapped(told)}")
        return written

    def unused(self, name: str) -> str:
        """Return `name`, or the same with a number where the file uses it already; from now on it does."""
        free = next(each for each in (name, *(f"{name}_{n}" for n in range(2, 1000))) if each not in self._names)
        self._names.add(free)
        return free

    def define(self, code: str) -> None:
        """Put a definition behind the imports."""
        if code not in self._definitions:
            self._definitions.append(code)

    def change(self, node: cst.CSTNode, change: Callable[[Any], Any]) -> None:
        """Let `change` make of a node what is to take its place, after what was planned for it and inside it before."""
        self._changes[node].append(change)

    def insert(self, statement: cst.CSTNode, side: str, code: Iterable[str]) -> None:
        """Put statements before or after one."""
        (self._before if side == "before" else self._after)[statement].extend(code)

    def insert_elements(self, element: cst.CSTNode, side: str, new: Sequence[cst.BaseExpression]) -> None:
        """Put elements of a list before or after one, on lines of their own where the list has its elements so."""
        items: Any = self.parent(element)
        self._beside[items].append(_Beside(list(items.elements).index(element), side, tuple(new)))

    def _local(self, dotted: str) -> str:
        """Return a dotted name as this file has it."""
        head, _, rest = dotted.partition(".")
        full = ".".join(filter(None, (FULL.get(head, head), rest)))
        parts = full.split(".")
        for length in range(len(parts), 0, -1):
            name = self._known.get(".".join(parts[:length]))
            if name is not None:
                return ".".join([name, *parts[length:]])
        through_tensorflow = head == "keras" and any(known.startswith("tensorflow.keras") for known in self._known)
        statement = "from tensorflow import keras" if through_tensorflow else PACKAGES[head]
        if statement not in self._imports:
            self._imports.append(statement)
        return dotted

    def _calls_for(self, node: cst.Call, callee: str) -> bool:
        return self.called(node) in {callee, callee.removesuffix("Cell"), OTHER_NAMES.get(callee, callee)}

    def _inside(self, node: cst.CSTNode) -> list[cst.CSTNode]:
        found = []
        for child in node.children:
            found += [child, *self._inside(child)]
        return found

    def _end(self, node: cst.CSTNode) -> tuple[int, int]:
        position = self._positions[node].end
        return position.line, position.column

    def _character(self, place: Span) -> tuple[int, int]:
        """Return the end of a place in characters, as libcst counts, where Python counts bytes."""
        if place.end_line > len(self._lines):
            return 0, 0
        line = self._lines[place.end_line - 1].encode()
        return place.end_line, len(line[: place.end_column].decode(errors="replace"))


def argument(call: cst.Call, name: str, position: int | None = None) -> cst.Arg | None:
    """Return the argument of a call, given by name or at its position.

    Raises:
        NoPlaceError: it may be among arguments that are unpacked.
    """
    for given in call.args:
        if given.keyword is not None and given.keyword.value == name:
            return given
    plain = [given for given in call.args if given.keyword is None and not given.star]
    if position is not None and position < len(plain):
        return plain[position]
    if any(given.star for given in call.args):
        raise NoPlaceError("its arguments are unpacked from a variable")
    return None


def with_argument(call: cst.Call, name: str, value: cst.BaseExpression | None, position: int | None = None) -> cst.Call:
    """Return a call with the argument set, added at the end where there is none, or taken away for None."""
    given = argument(call, name, position)
    if given is None:
        return call if value is None else _appended(call, cst.Arg(value, keyword=cst.Name(name), equal=_TIGHT))
    if value is not None:
        return call.with_changes(args=[a.with_changes(value=value) if a is given else a for a in call.args])
    kept = [a for a in call.args if a is not given]
    if given is call.args[-1] and kept:
        kept[-1] = kept[-1].with_changes(comma=given.comma, whitespace_after_arg=given.whitespace_after_arg)
    return call.with_changes(args=kept)


def _with_elements(items: Any, beside: Iterable[_Beside]) -> Any:
    """Return a list with elements put beside its own."""
    elements = list(items.elements)
    opened = items.lbracket.whitespace_after if isinstance(items, cst.List) else None
    between = _plain(opened) if isinstance(opened, cst.ParenthesizedWhitespace) else cst.SimpleWhitespace(" ")
    # From the last to the first, so that the indices of those still to be done stay what they are.
    for place, new in sorted(((each.index + (each.side == "after"), each.new) for each in beside), key=_place, reverse=True):
        added = [cst.Element(value, comma=cst.Comma(whitespace_after=between)) for value in new]
        if place == len(elements):
            last = elements[-1]
            comma = last.comma if isinstance(last.comma, cst.Comma) else cst.Comma()
            closed = items.rbracket.whitespace_before if isinstance(items, cst.List) else None
            elements[-1] = last.with_changes(comma=comma.with_changes(whitespace_after=_continued(closed, between)))
            added[-1] = added[-1].with_changes(comma=_last_comma(last.comma))
            if isinstance(closed, cst.ParenthesizedWhitespace):
                items = items.with_changes(rbracket=items.rbracket.with_changes(whitespace_before=_plain(closed)))
        elements[place:place] = added
    return items.with_changes(elements=elements)


def _place(given: tuple[int, Any]) -> int:
    return given[0]


_TIGHT = cst.AssignEqual(whitespace_before=cst.SimpleWhitespace(""), whitespace_after=cst.SimpleWhitespace(""))


def _appended(call: cst.Call, new: cst.Arg) -> cst.Call:
    """Return a call with one more argument, on a line of its own where the others are."""
    if not call.args:
        return call.with_changes(args=[new])
    *before, last = call.args
    opened = call.whitespace_before_args
    between = _plain(opened) if isinstance(opened, cst.ParenthesizedWhitespace) else cst.SimpleWhitespace(" ")
    comma = last.comma if isinstance(last.comma, cst.Comma) else cst.Comma()
    new = new.with_changes(comma=_last_comma(last.comma), whitespace_after_arg=last.whitespace_after_arg)
    told = comma.with_changes(whitespace_after=_continued(comma.whitespace_after, between))
    last = last.with_changes(comma=told, whitespace_after_arg=cst.SimpleWhitespace(""))
    return call.with_changes(args=[*before, last, new])


def _plain(space: cst.ParenthesizedWhitespace) -> cst.ParenthesizedWhitespace:
    """Return a line break without the comments in it."""
    return space.with_changes(first_line=cst.TrailingWhitespace(), empty_lines=[])


def _continued(space: Any, between: Any) -> Any:
    """Return `between`, with the comment that stood on the rest of the line."""
    if isinstance(space, cst.ParenthesizedWhitespace) and isinstance(between, cst.ParenthesizedWhitespace):
        return between.with_changes(first_line=space.first_line)
    return between


def _last_comma(comma: Any) -> Any:
    """Return the comma, if any, of what is last, without a comment that belongs to what was last before."""
    if isinstance(comma, cst.Comma) and isinstance(comma.whitespace_after, cst.ParenthesizedWhitespace):
        return comma.with_changes(whitespace_after=_plain(comma.whitespace_after))
    return comma


def _wrapped(numbers: Sequence[str]) -> str:
    """Return a list of numbers, on as many lines as it takes."""
    whole = f"[{', '.join(numbers)}]"
    if len(whole) <= WIDTH - 20:
        return whole
    lines, line = [], "    "
    for number in numbers:
        if len(line) + len(number) + 1 > WIDTH:
            lines.append(line.rstrip())
            line = "    "
        line += f"{number}, "
    return "\n".join(["[", *lines, line.rstrip(), "]"])


def _header(parts: Sequence[str], apart: int) -> list[Any]:
    """Return the statements of the parts; between definitions there are blank lines, constants stand together."""
    made = []
    for index, part in enumerate(parts):
        first, *others = cst.parse_module(part + "\n").body
        lines = _blank(apart) if index == 0 or apart > 1 else []
        made += [first.with_changes(leading_lines=[*lines, *first.leading_lines]), *others]
    return made


def _blank(count: int) -> list[cst.EmptyLine]:
    return [cst.EmptyLine(indent=False) for _ in range(count)]


def _imported(module: cst.Module) -> tuple[dict[str, str], dict[str, str]]:
    """Return the names at the top of a module by what they stand for in full, and the last names behind renamed ones.

    `tf.keras` and `tensorflow.keras` are keras.
    """
    known: dict[str, str] = {}
    renamed: dict[str, str] = {}
    statements = [part for line in module.body if isinstance(line, cst.SimpleStatementLine) for part in line.body]
    for statement in statements:
        if isinstance(statement, cst.Import):
            for each in statement.names:
                dotted = module.code_for_node(each.name)
                name = _as_name(module, each)
                if name:
                    known.setdefault(dotted, name)
                else:
                    known.setdefault(dotted.partition(".")[0], dotted.partition(".")[0])
        elif isinstance(statement, cst.ImportFrom) and statement.module is not None and not statement.relative:
            if isinstance(statement.names, cst.ImportStar):
                continue
            for each in statement.names:
                last = module.code_for_node(each.name)
                name = _as_name(module, each) or last
                known.setdefault(f"{module.code_for_node(statement.module)}.{last}", name)
                renamed[name] = last
    for full, name in list(known.items()):
        if full == "tensorflow":
            known.setdefault("keras", f"{name}.keras")
        for prefix in ("tensorflow.keras", "tensorflow.python.keras"):
            if full == prefix or full.startswith(f"{prefix}."):
                known.setdefault(f"keras{full.removeprefix(prefix)}", name)
    return known, renamed


def _as_name(module: cst.Module, each: cst.ImportAlias) -> str | None:
    return module.code_for_node(each.asname.name) if each.asname is not None else None


def _after_imports(module: cst.Module) -> int:
    """Return the position, among the statements of a module, behind its last import, or behind its docstring."""
    place = 0
    for index, line in enumerate(module.body):
        parts = line.body if isinstance(line, cst.SimpleStatementLine) else []
        docstring = index == 0 and bool(parts) and isinstance(parts[0], cst.Expr)
        if docstring or any(isinstance(part, cst.Import | cst.ImportFrom) for part in parts):
            place = index + 1
    return place


class _Localized(cst.CSTTransformer):
    """Puts a file's own names in the place of `keras.layers`, `np` and the like, and vectors in the place of their names."""

    def __init__(self, local: Callable[[str], str], vectors: Mapping[str, str], quote: str):
        super().__init__()
        self._local, self._vectors, self._quote = local, vectors, quote

    def visit_Attribute(self, node):
        return False  # handled as a whole

    def leave_Attribute(self, original_node, updated_node):
        dotted = cst.Module([]).code_for_node(original_node)
        if dotted.partition(".")[0] not in PACKAGES:
            return updated_node.with_changes(value=original_node.value.visit(self))
        return cst.parse_expression(self._local(dotted))

    def leave_SimpleString(self, original_node, updated_node):
        plain = original_node.value.strip("'\"")
        return updated_node.with_changes(value=f"{self._quote}{plain}{self._quote}") if plain.isidentifier() else updated_node

    def leave_Name(self, original_node, updated_node):
        vector = self._vectors.get(original_node.value)
        return updated_node if vector is None else cst.parse_expression(vector)


class _Changer(cst.CSTTransformer):
    """Makes the planned changes, those inside a node before its own."""

    def __init__(self, changes: Any, before: Any, after: Any):
        super().__init__()
        self._changes, self._before, self._after = changes, before, after

    def on_leave(self, original_node, updated_node):
        updated: Any = super().on_leave(original_node, updated_node)
        for change in self._changes.get(original_node, ()):
            updated = change(updated)
        before, after = (_statements(lines.get(original_node, ())) for lines in (self._before, self._after))
        if not before and not after:
            return updated
        if before:  # comments and blank lines in front of the statement stay in front of all
            before[0] = before[0].with_changes(leading_lines=updated.leading_lines)
            updated = updated.with_changes(leading_lines=())
        return cst.FlattenSentinel([*before, updated, *after])


def _statements(lines: Iterable[str]) -> list[Any]:
    return [statement for line in lines for statement in cst.parse_module(f"{line}\n").body]
