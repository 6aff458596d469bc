"""How large a part of the house may grow: a module, a class, a function. `ruff` limits
how complex a function is.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("src", "strategies", "tests", "examples", "benchmarks")
SOURCES = sorted({path.resolve() for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")})
MODULE_LINES = 350  # what can be read in one sitting
CLASS_METHODS = 15  # public ones: what a user of the class has to know
FUNCTION_LINES = 60  # a screen, docstring included
LONG = re.compile(r"# long: \w+ \w+")  # on the line of `def`: why a function is longer
Function = ast.FunctionDef | ast.AsyncFunctionDef


def too_long(path: Path, text: str) -> Iterator[str]:
    """Yield a line for each module, class and function of `text` that is over a limit
    and does not say why.
    """
    lines = text.splitlines()
    if len(lines) > MODULE_LINES:
        yield f"{path}: {len(lines)} lines"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ClassDef):
            public = {
                part.name
                for part in node.body
                if isinstance(part, Function) and not part.name.startswith("_")
            }
            if len(public) > CLASS_METHODS:
                yield f"{path}: class {node.name} has {len(public)} public methods"
        if isinstance(node, Function) and node.end_lineno is not None:
            count = node.end_lineno - node.lineno + 1
            if count > FUNCTION_LINES and not LONG.search(lines[node.lineno - 1]):
                yield f"{path}: {node.name} has {count} lines"


def test_no_module_class_or_function_is_over_its_limit():
    assert [
        line for path in SOURCES for line in too_long(path.relative_to(ROOT), path.read_text())
    ] == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("x = 1\n" * MODULE_LINES, []),
        ("x = 1\n" * (MODULE_LINES + 1), ["m.py: 351 lines"]),
        ("class A:\n" + "".join(f"    def f{n}(self): ...\n" for n in range(CLASS_METHODS)), []),
        (
            "class A:\n" + "".join(f"    def f{n}(self): ...\n" for n in range(16)),
            ["m.py: class A has 16 public methods"],
        ),
        ("class A:\n" + "".join(f"    def _f{n}(self): ...\n" for n in range(16)), []),
        ("def f():\n" + "    x = 1\n" * (FUNCTION_LINES - 1), []),
        ("def f():\n" + "    x = 1\n" * FUNCTION_LINES, ["m.py: f has 61 lines"]),
        ("def f():  # long: a table of cases\n" + "    x = 1\n" * FUNCTION_LINES, []),
        ("def f():  # long:\n" + "    x = 1\n" * FUNCTION_LINES, ["m.py: f has 61 lines"]),
    ],
)
def test_what_is_over_a_limit_is_named(text, found):
    assert list(too_long(Path("m.py"), text)) == found
