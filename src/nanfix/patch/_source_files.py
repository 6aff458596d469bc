"""The files of a script into which changes are planned and then made at once,
everything else of them kept as it is.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import libcst as cst

from nanfix.patch._file_plan import FilePlan
from nanfix.patch._formatting import Beside, wrapped
from nanfix.patch._names import NOTHING, LocalNames
from nanfix.patch._syntax import Syntax
from nanfix.records.errors import NoPlaceError
from nanfix.records.notebook_paths import cell_of, file_of, is_notebook
from nanfix.records.source_places import Made
from nanfix.source.code_file import notebook

if TYPE_CHECKING:
    from nanfix.source.notebook import Notebook

# The function or class of Keras that a script calls for it.
OTHER_NAMES = {"InputLayer": "Input", "Functional": "Model"}
# Numbers that are written where they are used; more of them become a constant of the module.
INLINE = 4


class Files:
    """The files that a fix may change, by their paths; each is parsed when it is first
    looked at.
    """

    def __init__(self, contents: Mapping[str, bytes]):
        self._contents = contents
        self._sources: dict[str, Source] = {}

    def source(self, path: str) -> "Source":
        """Return the file at a path.

        Raises:
            NoPlaceError: it is not one of the script's files, or no Python that libcst can parse.
        """
        path = file_of(path)
        if path not in self._contents:
            raise NoPlaceError("it is not in a file of the script")
        if path not in self._sources:
            content = self._contents[path]
            cells = notebook(content, path) if is_notebook(path) else None
            self._sources[path] = Source(content, cells)
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
        return {
            path: content for path, content in contents.items() if content != self._contents[path]
        }


class Source:
    """A file, and what is planned to change in it, by the nodes of its syntax: that of all cells
    together where it holds a `notebook`.

    Raises:
        NoPlaceError: the file is no Python that libcst can parse.
    """

    def __init__(self, content: bytes, notebook: "Notebook | None" = None):
        self._notebook = notebook
        self.syntax = Syntax(content if notebook is None else notebook.text.encode())
        self.plan = FilePlan()
        module = self.syntax.module
        nodes = self.syntax.within(module)
        self._used = {node.value for node in nodes if isinstance(node, cst.Name)}
        strings = [node.value for node in nodes if isinstance(node, cst.SimpleString)]
        self._names = LocalNames(module, strings)

    @property
    def content(self) -> bytes:
        """The file with every planned change in it."""
        changed = self.plan.made_in(self.syntax.module)
        return changed.bytes if self._notebook is None else self._notebook.with_text(changed.code)

    def line(self, path: str, line: int) -> int:
        """Return the line of the syntax at which a line of a file, or of a cell, stands."""
        number = cell_of(path)
        return line if self._notebook is None or not number else self._notebook.line(number, line)

    def at(self, made: Made) -> cst.Call | None:
        """Return the call that ends at the place of `made`, whatever it calls."""
        place = made.place
        return self.syntax.call_at(self.line(place.file, place.end_line), place.end_column)

    def call(self, made: Made) -> cst.Call:
        """Return the call that stands at the place of `made`, or the only one of that
        name inside it.
        """
        whole = self.at(made)
        if whole is None:
            raise NoPlaceError("no call stands where the script made it")
        if self._calls_for(whole, made.callee):
            return whole
        inside = [
            node
            for node in self.syntax.within(whole)[1:]
            if isinstance(node, cst.Call) and self._calls_for(node, made.callee)
        ]
        if len(inside) != 1:
            raise NoPlaceError(
                f"{self.syntax.code(whole.func)} makes it, and no single call of {made.callee} "
                "stands there"
            )
        return inside[0]

    def called(self, node: cst.CSTNode) -> str:
        """Return the last name of what a call calls, as the library has it."""
        function = node.func if isinstance(node, cst.Call) else None
        if isinstance(function, cst.Attribute):
            return function.attr.value
        return self._names.original(function.value) if isinstance(function, cst.Name) else ""

    def package(self, node: cst.BaseExpression) -> str:
        """Return what a dotted name stands for in full, as far as the imports tell:
        "tensorflow.math.log".
        """
        return self._names.full(self.syntax.code(node))

    def expression(self, text: str, vectors: Mapping[str, str] = NOTHING) -> cst.BaseExpression:
        """Return an expression under the names that this file has for the packages in it; what it
        lacks will be imported.

        `vectors` says what is written for the vectors that it names.
        """
        return self._names.written(cst.parse_expression(text), self.plan.imports, vectors)

    def written(self, text: str, vectors: Mapping[str, str] = NOTHING) -> str:
        """Return an expression as in `expression`, as text."""
        return self.syntax.code(self.expression(text, vectors))

    def vectors(self, numbers: Mapping[str, Sequence[float]], uses: int = 1) -> dict[str, str]:
        """Return what is written for vectors: the numbers of a short one, for one that is long, or
        used several times, the name of a new constant.
        """
        written = {}
        for name, values in numbers.items():
            texts = [_digits(value) for value in values]
            if len(texts) <= INLINE and uses == 1:
                written[name] = f"[{', '.join(texts)}]"
            else:
                written[name] = self.unused(f"INPUT_{name}")
                self.plan.constants.append(f"{written[name]} = {wrapped(texts)}")
        return written

    def unused(self, name: str) -> str:
        """Return `name`, or the same with a number where the file uses it already; from
        now on it does.
        """
        free = next(
            each
            for each in (name, *(f"{name}_{n}" for n in range(2, 1000)))
            if each not in self._used
        )
        self._used.add(free)
        return free

    def define(self, code: str) -> None:
        """Put a definition behind the imports, under the names that this file has for
        the packages in it.
        """
        written = self._names.written(cst.parse_module(code), self.plan.imports).code
        if written not in self.plan.definitions:
            self.plan.definitions.append(written)

    def change(self, node: cst.CSTNode, change: Callable[[Any], Any]) -> None:
        """Let `change` make of a node what is to take its place, after what was planned
        for it and inside it before.
        """
        self.plan.changes[node].append(change)

    def insert(self, statement: cst.CSTNode, side: str, code: Iterable[str]) -> None:
        """Put statements before or after one."""
        (self.plan.before if side == "before" else self.plan.after)[statement].extend(code)

    def insert_elements(
        self, element: cst.CSTNode, side: str, new: Sequence[cst.BaseExpression]
    ) -> None:
        """Put elements of a list before or after one, on lines of their own where the
        list has its elements so.
        """
        items: Any = self.syntax.parent(element)
        self.plan.elements[items].append(
            Beside(list(items.elements).index(element), side, tuple(new))
        )

    def _calls_for(self, node: cst.Call, callee: str) -> bool:
        return self.called(node) in {
            callee,
            callee.removesuffix("Cell"),
            OTHER_NAMES.get(callee, callee),
        }


def _digits(value: float) -> str:
    """Return a number to seven digits, or, where it has more, to nine, which tell a float32."""
    value += 0.0  # of -0.0, too, people write 0
    text = f"{value:.7g}"
    return text if float(text) == value else f"{value:.9g}"
