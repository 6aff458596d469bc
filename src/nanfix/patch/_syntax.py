"""A parsed file: where its nodes stand, and what stands round them."""

import re
from collections.abc import Iterator

import libcst as cst
from libcst.metadata import MetadataWrapper, ParentNodeProvider, PositionProvider

from nanfix.model.user_code import alike
from nanfix.records.errors import NoPlaceError


class Syntax:
    """The syntax tree of a file.

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
        self._calls = {
            self._end(node): node for node in self._positions if isinstance(node, cst.Call)
        }

    def call_at(self, end_line: int, end_column: int) -> cst.Call | None:
        """Return the call that ends at a place, as Python has it, whatever it calls."""
        return self._calls.get(self._character(end_line, end_column))

    def parent(self, node: cst.CSTNode) -> cst.CSTNode:
        return self._parents[node]

    def ancestors(self, node: cst.CSTNode) -> Iterator[cst.CSTNode]:
        while node in self._parents:
            node = self._parents[node]
            yield node

    def given_to(self, value: cst.CSTNode) -> cst.CSTNode | None:
        """Return what an assignment gives a value to, of `a, b = x, y` the part that is its own,
        which is no name where there are several; None where nothing is given it as it is.
        """
        outer = self.parent(value)
        if isinstance(outer, cst.Assign):
            return outer.targets[0].target if len(outer.targets) == 1 else outer.targets[0]
        row = self.parent(outer) if isinstance(outer, cst.Element) else None
        assignment = self.parent(row) if isinstance(row, cst.Tuple | cst.List) else None
        if not isinstance(assignment, cst.Assign) or not isinstance(row, cst.Tuple | cst.List):
            return None
        parts = assignment.targets[0].target
        if not isinstance(parts, cst.Tuple | cst.List):
            return None
        alike = len(assignment.targets) == 1 and len(parts.elements) == len(row.elements)
        return parts.elements[row.elements.index(outer)].value if alike else parts  # pyright: ignore

    def statement(self, node: cst.CSTNode) -> cst.SimpleStatementLine:
        """Return the statement a node stands in, in front of which others can be put without being
        run at another time.
        """
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
        return next(
            outer
            for outer in self.ancestors(node)
            if isinstance(outer, cst.FunctionDef | cst.Module)
        )

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

    def lines_alike(self, line: int) -> list[int]:
        """Return a line, and those of its function that compute the same of other variables."""
        on_it = [node for node in self.within(self.module) if line in self.lines(node)]
        scope = self.scope(on_it[-1]) if len(on_it) > 1 else self.module
        text = self._lines[line - 1]
        others = [n for n in self.lines(scope) if n != line and n <= len(self._lines)]
        return [line, *(n for n in others if alike(self._lines[n - 1], text))]

    def code(self, node: cst.CSTNode) -> str:
        return self.module.code_for_node(node)

    def _inside(self, node: cst.CSTNode) -> list[cst.CSTNode]:
        found = []
        for child in node.children:
            found += [child, *self._inside(child)]
        return found

    def _end(self, node: cst.CSTNode) -> tuple[int, int]:
        position = self._positions[node].end
        return position.line, position.column

    def _character(self, number: int, column: int) -> tuple[int, int]:
        """Return a place in characters, as libcst counts, where Python counts bytes."""
        if number > len(self._lines):
            return 0, 0
        line = self._lines[number - 1].encode()
        return number, len(line[:column].decode(errors="replace"))
