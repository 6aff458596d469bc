"""The Python of a notebook's cell, each line where it stands in the cell."""

import ast

from IPython.core.inputtransformer2 import TransformerManager

# Cell magics that run the rest of their cell as Python.
OF_PYTHON = ("%%time", "%%capture", "%%nanfix")


class LineKeeper(TransformerManager):
    """Writes magics as Python, as IPython does, and leaves every line where it is."""

    def do_one_token_transform(self, lines):
        changed, made = super().do_one_token_transform(lines)
        joined = len(lines) - len(made)  # a magic that goes on over several lines becomes one
        if joined > 0:
            pairs = enumerate(zip(lines, made, strict=False))
            first = next((n for n, (old, new) in pairs if old != new), len(made) - 1)
            made = [*made[: first + 1], *["\n"] * joined, *made[first + 1 :]]
        return changed, made

    def cleaned(self, cell: str) -> list[str]:
        """Return the lines of a cell without what IPython takes away first: an indent, prompts."""
        lines = cell.splitlines(keepends=True)
        for transform in self.cleanup_transforms:
            lines = transform(lines)
        return lines


def lines_before(cell: str) -> int:
    """Return how many lines of a cell stand in front of its Python: empty ones, and magics that run
    the rest as Python.
    """
    lines = cell.splitlines()
    python = (line.strip() and line.split()[0] not in OF_PYTHON for line in lines)
    return next((number for number, is_python in enumerate(python) if is_python), len(lines))


def is_python(text: str) -> bool:
    """Say whether a cell's text can be run as Python, as IPython runs it."""
    try:
        compile(text, "cell", "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    except (SyntaxError, ValueError):
        return False
    return True
