"""The files of a script into which changes are planned and then made at once, everything else of them kept as it is."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import libcst as cst
from libcst.metadata import MetadataWrapper, ParentNodeProvider, PositionProvider

from nanfix.patch._file_plan import FilePlan
from nanfix.patch._formatting import Beside, wrapped
from nanfix.patch._names import NOTHING, LocalNames
from nanfix.records.errors import NoPlaceError
from nanfix.records.source_places import Made, Span

OTHER_NAMES = {"InputLayer": "Input", "Functional": "Model"}  # the function or class of Keras that a script calls for it
INLINE = 4  # numbers that are written where they are used; more of them become a constant of the module


class Files:
    """The files that a fix may change, by their paths; each is parsed when it is first looked at."""

    def __init__(self, contents: Mapping[str, bytes]):
        self._contents = contents
        self._sources: dict[str, Source] = {}

    def source(self, path: str) -> "Source":
        """Return the file at a path.

        Raises:
            NoPlaceError: it is not one of the script's files, or no Python that libcst can parse.
        """
        if path not in self._contents:
            raise NoPlaceError("it is not in a file of the script")
        if path not in self._sources:
            self._sources[path] = Source(self._contents[path])
        return self._sources[path]

    def call(self, made: Made) -> "tuple[Source, cst.Call]":
        """Return the call at a place, and the file it stands in. Raises NoPlaceError."""
        source = self.source(made.place.file)
        return source, source.call(made)

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """Take back what is planned inside the `with` block where a part of it has no place."""
        before = {path: source.plan.copy() for path, source in self._sources.items()}
        try:
            yield
        except NoPlaceError:
            for path, source in self._sources.items():
                source.plan = before.get(path, FilePlan())
            raise

    @property
    def changed(self) -> dict[str, bytes]:
        """The new content of the files that change."""
        contents = {path: source.content for path, source in self._sources.items()}
        return {path: content for path, content in contents.items() if content != self._contents[path]}


class Source:
    """A parsed file. Nodes found in it are the keys under which changes are planned.

    Raises:
        NoPlaceError: the file is no Python that libcst can parse.
    """

    def __init__(self, content: bytes):
        try:
            wrapper = MetadataWrapper(cst.parse_module(content))
        except (cst.ParserSyntaxError, UnicodeDecodeError) as error:
            raise NoPlaceError("libcst cannot parse the file") from error
        self.module = wrapper.module
        self.plan = FilePlan()
        self._positions = wrapper.resolve(PositionProvider)
        self._parents = wrapper.resolve(ParentNodeProvider)
        self._lines = re.split("\r\n|\r|\n", content.decode(self.module.encoding))
        self._calls = {self._end(node): node for node in self._positions if isinstance(node, cst.Call)}
        self._used = {node.value for node in self._positions if isinstance(node, cst.Name)}
        strings = [node.value for node in self._positions if isinstance(node, cst.SimpleString)]
        self._names = LocalNames(self.module, strings)

    @property
    def content(self) -> bytes:
        """The file with every planned change in it."""
        return self.plan.made_in(self.module).bytes

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
        return self._names.original(function.value) if isinstance(function, cst.Name) else ""

    def package(self, node: cst.BaseExpression) -> str:
        """Return what a dotted name stands for in full, as far as the imports tell: "tensorflow.math.log"."""
        return self._names.full(self.code(node))

    # Writing

    def expression(self, text: str, vectors: Mapping[str, str] = NOTHING) -> cst.BaseExpression:
        """Return an expression under the names that this file has for the packages in it; what it lacks will be imported.

        `vectors` says what is written for the vectors that it names.
        """
        return self._names.written(cst.parse_expression(text), self.plan.imports, vectors)

    def written(self, text: str, vectors: Mapping[str, str] = NOTHING) -> str:
        """Return an expression as in `expression`, as text."""
        return self.code(self.expression(text, vectors))

    def vectors(self, numbers: Mapping[str, Sequence[float]]) -> dict[str, str]:
        """Return what is written for vectors: the numbers of a short one, for a long one the name of a new constant."""
        written = {}
        for name, values in numbers.items():
            told = [f"{value:.7g}" for value in values]
            if len(told) <= INLINE:
                written[name] = f"[{', '.join(told)}]"
            else:
                written[name] = self.unused(f"INPUT_{name}")
                self.plan.constants.append(f"{written[name]} = {wrapped(told)}")
        return written

    def unused(self, name: str) -> str:
        """Return `name`, or the same with a number where the file uses it already; from now on it does."""
        free = next(each for each in (name, *(f"{name}_{n}" for n in range(2, 1000))) if each not in self._used)
        self._used.add(free)
        return free

    def define(self, code: str) -> None:
        """Put a definition behind the imports, under the names that this file has for the packages in it."""
        written = self._names.written(cst.parse_module(code), self.plan.imports).code
        if written not in self.plan.definitions:
            self.plan.definitions.append(written)

    def change(self, node: cst.CSTNode, change: Callable[[Any], Any]) -> None:
        """Let `change` make of a node what is to take its place, after what was planned for it and inside it before."""
        self.plan.changes[node].append(change)

    def insert(self, statement: cst.CSTNode, side: str, code: Iterable[str]) -> None:
        """Put statements before or after one."""
        (self.plan.before if side == "before" else self.plan.after)[statement].extend(code)

    def insert_elements(self, element: cst.CSTNode, side: str, new: Sequence[cst.BaseExpression]) -> None:
        """Put elements of a list before or after one, on lines of their own where the list has its elements so."""
        items: Any = self.parent(element)
        self.plan.elements[items].append(Beside(list(items.elements).index(element), side, tuple(new)))

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
