"""A notebook as one Python text: its code cells one below the other, each line as Python has it
when the cell runs. What is changed in that text is written back into the cells.
"""

import copy
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import cached_property
from typing import Any, Self

import nbformat

from nanfix.records.errors import ScriptError
from nanfix.source.cell_lines import LineKeeper, is_python, lines_before

MARK = "# nanfix: cell {}\n"
MARKS = re.compile(r"^# nanfix: cell (\d+)\n", re.MULTILINE)
MALFORMED = (ValueError, TypeError, AttributeError, KeyError)  # JSON of another shape, or none
PYTHON = ("python", "ipython", "python3")
EMPTY = "#\n"  # in the place of a line that is no Python


@dataclass(frozen=True)
class Cell:
    """A code cell that is not empty: its number among these, from 1, its position among all cells,
    and its text.

    `python` is what IPython runs, which begins so many lines `before` lower; "" where the cell is
    none of Python's.
    """

    number: int
    index: int
    source: str
    before: int
    python: str

    @classmethod
    def of(cls, number: int, index: int, source: str) -> Self:
        before = lines_before(source)
        rest = source.splitlines(keepends=True)[before:]
        other = not rest or rest[0].lstrip().startswith("%%")
        python = "" if other else LineKeeper().transform_cell("".join(rest))
        return cls(number, index, source, before, python if is_python(python) else "")

    @property
    def lines(self) -> list[str]:
        """The cell as Python, each line where it stands in the cell."""
        if not self.python:
            return [EMPTY] * len(self.source.splitlines())
        return [*[EMPTY] * self.before, *self.python.splitlines(keepends=True)]

    def with_lines(self, lines: Sequence[str]) -> str:
        """Return the text of the cell with its Python changed into these lines; magics in it stay
        as they are written.
        """
        first = self.source.splitlines(keepends=True)
        written = LineKeeper().cleaned("".join(first[self.before :]))
        old, new = self.lines[self.before :], lines[self.before :]
        made = [*first[: self.before]]
        for kind, i, j, k, m in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
            made += written[i:j] if kind == "equal" else new[k:m]
        return "".join(line if line.endswith("\n") else f"{line}\n" for line in made).rstrip("\n")


@dataclass(frozen=True)
class Notebook:
    """A notebook of Python; `content` is its file, `data` the same as nbformat has it."""

    content: bytes
    data: Any
    cells: tuple[Cell, ...]

    @classmethod
    def read(cls, content: bytes, path: str) -> Self:
        """Return the notebook that a file holds.

        Raises:
            ScriptError: it holds none, or one without Python.
        """
        try:
            data = nbformat.reads(content.decode(), as_version=4)
            nbformat.validate(data)
        except (*MALFORMED, nbformat.ValidationError) as error:
            first = str(error).partition("\n")[0]
            raise _refused(path, f"no notebook ({first})") from error
        language = _language(data.metadata)
        if language.lower() not in PYTHON:
            raise _refused(path, f"one in {language}")
        code = [
            (index, cell.source)
            for index, cell in enumerate(data.cells)
            if cell.cell_type == "code" and cell.source.strip()
        ]
        if not code:
            raise _refused(path, "one without code cells")
        cells = tuple(Cell.of(number, *each) for number, each in enumerate(code, 1))
        return cls(content, data, cells)

    @cached_property
    def text(self) -> str:
        """All code cells as one Python text."""
        return "".join("".join([MARK.format(each.number), *each.lines]) for each in self.cells)

    @property
    def code(self) -> bytes:
        """What the notebook says, without what it has shown."""
        return "\0".join(cell.source for cell in self.cells).encode()

    def line(self, number: int, line: int) -> int:
        """Return the line of the text at which a line of a cell stands."""
        earlier = (len(cell.lines) + 1 for cell in self.cells if cell.number < number)
        return sum(earlier) + 1 + line

    def with_text(self, text: str) -> bytes:
        """Return the file of the notebook with this text instead; all else stays, outputs too."""
        if text == self.text:
            return self.content
        _, *found = MARKS.split(text)
        lines = dict(zip(map(int, found[::2]), found[1::2], strict=True))
        sources = {
            cell.index: cell.with_lines(lines[cell.number].splitlines(keepends=True))
            for cell in self.cells
            if lines[cell.number] != "".join(cell.lines)
        }
        return self._with_sources(sources)

    def _with_sources(self, sources: Mapping[int, str]) -> bytes:
        data = copy.deepcopy(self.data)
        for index, source in sources.items():
            data.cells[index].source = source
        return f"{nbformat.writes(data)}\n".encode()


def _language(metadata: Mapping[str, Any]) -> str:
    told = metadata.get("language_info", {}).get("name")
    return told or metadata.get("kernelspec", {}).get("language") or PYTHON[0]


def _refused(path: str, received: str) -> ScriptError:
    return ScriptError(
        f"Cannot run {path!r}. Expected: a Jupyter notebook with code cells in Python. Received: "
        f"{received}. Open it in Jupyter, and save it there."
    )
