"""Notebooks that tests write."""

from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output


def write_notebook(path, *cells, **metadata):
    """Write a notebook of these code cells, each with an output, below a heading."""
    made = [new_markdown_cell("# A heading", id="head")]
    for number, source in enumerate(cells, 1):
        shown = new_output("stream", name="stdout", text=f"shown by {number}\n")
        cell = new_code_cell(source, id=f"cell-{number}", outputs=[shown], execution_count=number)
        made.append(cell)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(new_notebook(cells=made, metadata=metadata), path)
    return Path(path)


def sources(content):
    """Return the text of the code cells of a notebook's file, or of its content."""
    content = content.read_bytes() if isinstance(content, Path) else content
    cells = nbformat.reads(content.decode(), as_version=4).cells
    return [cell.source for cell in cells if cell.cell_type == "code"]
