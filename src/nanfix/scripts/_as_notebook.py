"""Runs a notebook as Jupyter would, cell by cell in a shell of IPython, in the process of a script.

Each cell is known as a file of its own, `train.ipynb, cell 3`.
"""

import ast
import linecache
import os
import sys
import tempfile
import warnings
from importlib.machinery import SourceFileLoader
from typing import Any

from IPython.core.compilerop import CachingCompiler
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

from nanfix.records.notebook_paths import cell_path
from nanfix.scripts._as_main import script_frames
from nanfix.source.cell_lines import LineKeeper
from nanfix.source.notebook import Cell, Notebook

# In Jupyter figures are shown below the cell; nobody is there to close a window.
FIGURES = "module://matplotlib_inline.backend_inline"


def run_notebook_as_main(notebook: str, arguments: list[str]) -> None:
    """Run the cells of `notebook` in its folder, one after the other, up to one that fails."""
    path = os.path.abspath(notebook)
    # Whoever patches a script lets its loader read something else.
    cells = Notebook.read(SourceFileLoader("__main__", path).get_data(path), path).cells
    os.chdir(os.path.dirname(path))
    sys.argv = [notebook, *arguments]
    sys.path.insert(0, os.path.dirname(path))
    os.environ.setdefault("MPLBACKEND", FIGURES)
    warnings.filterwarnings("ignore", "To exit: use")  # IPython's, of a cell that exits
    with tempfile.TemporaryDirectory(prefix="nanfix-ipython-") as folder:
        shell = NotebookShell.instance(
            config=Config({"HistoryManager": {"enabled": False}}),
            ipython_dir=folder,
            compiler_class=CellCompiler,
            colors="nocolor",
        )
        for cell in cells:
            shell.run_notebook_cell(cell_path(path, cell.number), cell)


class CellCompiler(CachingCompiler):
    """Compiles the Python of a cell under the name and with the lines that it has there."""

    def __init__(self) -> None:
        super().__init__()
        self._numbers: dict[str, int] = {}

    def begin(self, name: str, cell: Cell) -> None:
        self._name, self._cell, self._is_timed = name, cell, False
        if cell.python:
            self._numbers[name] = cell.number
            linecache.cache[name] = (len(cell.source), None, cell.lines, name)

    def format_code_name(self, name):
        number = self._numbers.get(name)
        return super().format_code_name(name) if number is None else ("Cell", f"In[{number}]")

    def cache(self, transformed_code, number=0, raw_code=None):
        if transformed_code == self._cell.python:
            return self._name
        return super().cache(transformed_code, number, raw_code)

    def ast_parse(self, source, filename="<unknown>", symbol="exec"):
        tree = super().ast_parse(source, filename, symbol)
        whole = source == self._cell.python
        self._is_timed = whole and filename != self._name
        return ast.increment_lineno(tree, self._cell.before) if whole else tree

    def __call__(self, source, filename, *args, **kwargs):
        if self._is_timed and filename.startswith("<timed"):  # what `%%time` calls its cell
            filename = self._name
        return super().__call__(source, filename, *args, **kwargs)


class NotebookShell(InteractiveShell):
    """A shell that ends with the first cell that fails, and shows how, as a notebook does."""

    input_transformer_manager = LineKeeper()

    def run_notebook_cell(self, name: str, cell: Cell) -> None:
        """Run one cell.

        Raises:
            SystemExit: it has ended the notebook, or raised an error, the cause of this one.
            KeyboardInterrupt: it was interrupted.
        """
        self.compile.begin(name, cell)  # type: ignore[attr-defined]
        result = self.run_cell(cell.source, store_history=True)
        error = result.error_before_exec or result.error_in_exec
        if isinstance(error, SystemExit | KeyboardInterrupt):
            raise error.with_traceback(None)
        if error is not None:
            raise SystemExit(1) from error

    def enable_gui(self, gui=None):
        """Do nothing: figures are shown below the cell."""

    def showtraceback(self, *args: Any, **kwargs: Any) -> None:
        if not isinstance(sys.exc_info()[1], SystemExit | KeyboardInterrupt):
            super().showtraceback(*args, **kwargs)

    def _get_exc_info(self, exc_tuple=None):
        kind, error, traceback = super()._get_exc_info(exc_tuple)
        return kind, error, script_frames(traceback)

    def _showtraceback(self, etype, evalue, stb):
        print(self.InteractiveTB.stb2text(stb), file=sys.stderr)
