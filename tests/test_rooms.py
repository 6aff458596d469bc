"""The rooms of the house: which may import which, and what is private to one."""

import ast
import re
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "nanfix"
TESTS = Path(__file__).parent
# A room imports from itself and from those before it, inside functions and for types too.
ROOMS = (
    *(
        "records",
        "private",
        "model",
        "source",
        "changes",
        "data",
        "recorder",
        "remedies",
        "report",
        "install",
    ),
    *("explain", "strategies", "search", "api", "patch", "scripts", "cli", "testing"),
)
FILES = [path for room in ROOMS for path in sorted((PACKAGE / room).rglob("*.py"))]
MODULES = {".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts): path for path in FILES}


def room_of(module):
    return module.split(".")[1]


def imports(path, of_types=True):
    """Return the modules of the rooms that a file imports, wherever in it."""
    tree = ast.parse(path.read_text())
    typing = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
    ]
    left_out = set() if of_types else {inner for node in typing for inner in ast.walk(node)}
    names = set()
    for node in set(ast.walk(tree)) - left_out:
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return names & MODULES.keys()


def test_the_package_holds_rooms_and_nothing_else():
    inside = {path.name for path in PACKAGE.iterdir()} - {"__pycache__"}
    assert inside == {"__init__.py", "py.typed", *ROOMS}


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_says_what_its_business_is_and_imports_from_those_before_it_alone(room):
    for package in (PACKAGE / room).rglob("__init__.py"):
        tree = ast.parse(package.read_text())
        assert ast.get_docstring(tree) and len(tree.body) == 1, (
            f"{package}: expected a docstring and no code"
        )
    allowed = ROOMS[: ROOMS.index(room) + 1]
    own = {name: path for name, path in MODULES.items() if room_of(name) == room}
    assert (
        own
        and [
            (name, other)
            for name, path in own.items()
            for other in imports(path)
            if room_of(other) not in allowed
        ]
        == []
    )


def test_no_module_imports_itself_by_way_of_others():
    TopologicalSorter(
        {name: imports(path, of_types=False) for name, path in MODULES.items()}
    ).prepare()


def test_what_begins_with_an_underscore_is_for_its_own_room_and_the_tests_of_it():
    private = {
        name
        for name in MODULES
        if name.rpartition(".")[2].startswith("_") and not name.endswith(".__init__")
    }
    rooms = {path: path.relative_to(PACKAGE).parts[0] for path in FILES}
    rooms |= {path: path.relative_to(TESTS).parts[0] for path in TESTS.rglob("*.py")}
    assert private
    assert [
        (path, name)
        for path, room in rooms.items()
        for name in imports(path) & private
        if room_of(name) != room
    ] == []


def test_records_remedies_and_the_way_from_a_fix_to_a_patch_load_neither_keras_nor_tensorflow():
    names = [name for name in MODULES if room_of(name) in ("records", "remedies")]
    code = (
        f"import sys, {', '.join([*names, 'nanfix.patch.patch'])}; print({{'keras', "
        "'tensorflow'} & set(sys.modules))"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout
        == "set()\n"
    )


def test_the_tour_names_every_room_in_order_and_every_module_once():
    """docs/design.md; `strategies` has a page of its own."""
    text = (PACKAGE.parents[1] / "docs" / "design.md").read_text()
    table = text.partition("| room | its business |")[2].partition("\n\n")[0]
    assert tuple(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == ROOMS
    files = text.partition("## The files")[2]
    named, room = [], None
    for line in files.splitlines():
        if found := re.match(r"(\w+)/ ", line + " "):
            room = found[1]
        elif found := re.match(r"  ([\w/]+)\.py ", line):
            named.append(f"nanfix.{room}.{found[1].replace('/', '.')}")
    there = {
        name for name in MODULES if not name.endswith("__init__") and room_of(name) != "strategies"
    }
    assert sorted(named) == sorted(there)
