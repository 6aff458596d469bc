"""The paths of notebooks and of their cells. Loads nothing but the standard library."""

import re

NOTEBOOK = ".ipynb"
_CELL = re.compile(rf"(.*{re.escape(NOTEBOOK)}), cell (\d+)", re.DOTALL)


def is_notebook(path: str) -> bool:
    return path.endswith(NOTEBOOK)


def cell_path(notebook: str, number: int) -> str:
    """Return the path by which a code cell of a notebook is known, as if it were a file."""
    return f"{notebook}, cell {number}"


def file_of(path: str) -> str:
    """Return the path of the file that is there: of a cell, that of its notebook."""
    found = _CELL.fullmatch(path)
    return path if found is None else found[1]


def cell_of(path: str) -> int | None:
    """Return the number of a cell by its path; None where that is of no cell."""
    found = _CELL.fullmatch(path)
    return None if found is None else int(found[2])
