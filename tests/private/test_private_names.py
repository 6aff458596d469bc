"""Every private name that nanfix uses is still there, reads as it did, and is used in
nanfix.private alone.
"""

import ast
import functools
import hashlib
import importlib
import inspect
import textwrap
from pathlib import Path

import pytest
from private_names import MODULES, OWNERS, PREFIXES, REPLACED

ROOT = Path(__file__).resolve().parents[2]
PRIVATE = ROOT / "src" / "nanfix" / "private"
PACKAGES = ("keras.src", "tensorflow.python", "keras_tuner.src")
# Modules of Python's own, of which single private functions are documented.
OF_PYTHON = ("sys", "os", "runpy")
BY_NAME = ("getattr", "hasattr", "setattr")
OF_TUPLES = ("_fields", "_asdict", "_replace")  # documented, of a namedtuple
IN_FILES = ("tensorflow.python.keras",)  # what the user's own files may import


@pytest.fixture(autouse=True, scope="session")
def untuned():
    """Nothing is trained here, so a private name that is gone breaks no more than its own test."""


ATTRIBUTES = [
    pytest.param(o, name, id=f"{o.__name__}.{name}")
    for o, names in OWNERS.items()
    for name in names
]


@pytest.mark.parametrize(("owner", "name"), ATTRIBUTES)
def test_attribute_is_there(owner, name):
    thing = owner()
    assert hasattr(thing, name), (
        f"{type(thing).__name__} has no attribute {name!r} any more: see nanfix.private"
    )


@pytest.mark.parametrize(
    ("module", "name"), [(module, name) for module, names in MODULES.items() for name in names]
)
def test_module_has_the_name(module, name):
    assert hasattr(importlib.import_module(module), name), (
        f"{module} has no {name!r} any more: see nanfix.private"
    )


@pytest.mark.parametrize(("module", "method", "digest", "ours"), REPLACED)
def test_what_is_done_in_its_place_reads_as_it_did(module, method, digest, ours):
    function = functools.reduce(getattr, method.split("."), importlib.import_module(module))
    code = ast.unparse(ast.parse(textwrap.dedent(inspect.getsource(function))))
    now = hashlib.sha256(code.encode()).hexdigest()[:16]
    assert now == digest, (
        f"{module}.{method} has changed: compare it with {ours}, then write {now!r} here"
    )


def test_the_lists_name_all_that_is_used():
    used = {
        name
        for path in PRIVATE.glob("*.py")
        for name in _private_names(ast.parse(path.read_text()))
    }
    known = {name for names in OWNERS.values() for name in names}
    assert used - known - set(PREFIXES) == set()
    imported = {
        name
        for path in PRIVATE.glob("*.py")
        for name in _private_imports(ast.parse(path.read_text()))
    }
    listed = {f"{module}.{name}" for module, names in MODULES.items() for name in names}
    assert imported - listed - set(MODULES) == set()
    assert {module for module in MODULES if module not in imported} == {
        name.rpartition(".")[0] for name in imported & listed
    }


@pytest.mark.parametrize("folder", ["src/nanfix", "strategies"])
def test_no_private_name_is_used_elsewhere(folder):
    trees = {
        path: ast.parse(path.read_text())
        for path in sorted((ROOT / folder).rglob("*.py"))
        if PRIVATE not in path.parents
    }
    known = {name for names in OWNERS.values() for name in names if name.startswith("_")}
    own = {name for tree in trees.values() for name in _defined(tree)}
    found = []
    for path, tree in trees.items():
        found += [
            f"{path}: {name}" for name in sorted(_private_imports(tree)) if name not in IN_FILES
        ]
        found += [f"{path}:{line}: {name}" for line, name in _uses(tree, known, own)]
    assert not found, "\n".join(["Expected: used in nanfix.private alone. Received:", *found])


def _private_imports(tree: ast.AST) -> set[str]:
    """Return the full names that are imported from private modules, and the names of
    such modules as text.
    """
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and not node.level:
            full = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name for name in full if name.startswith(PACKAGES)}
            found |= {
                name
                for name in full
                if name.startswith(("keras", "tensorflow")) and "._" in name and ".__" not in name
            }
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.startswith(PACKAGES)}
        elif (
            isinstance(node, ast.Constant) and isinstance(node.value, str) and " " not in node.value
        ):
            found |= {node.value} if node.value.startswith(PACKAGES) else set()
    return found


def _private_names(tree: ast.AST) -> set[str]:
    """Return the private attributes of other objects, as code and as text."""
    own = _defined(tree)
    nodes = list(ast.walk(tree))
    attributes = {
        node.attr for node in nodes if isinstance(node, ast.Attribute) and _is_private(node.attr)
    }
    texts = {
        node.value
        for node in nodes
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    return (attributes - own) | {
        text for text in texts if _is_private(text) and text.isidentifier()
    }


def _uses(tree: ast.AST, known: set[str], own: set[str]) -> list[tuple[int, str]]:
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and _is_private(node.attr):
            holder = node.value.id if isinstance(node.value, ast.Name) else ""
            ours = node.attr in own and (node.attr not in known or holder in ("self", "cls"))
            if not ours and holder not in OF_PYTHON:
                found.append((node.lineno, node.attr))
        elif isinstance(node, ast.Constant) and node.value in known:
            found.append((node.lineno, node.value))
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in BY_NAME:
            of, name = ast.unparse(node.args[0]), getattr(node.args[1], "value", "")
            ours = name in own or name in OF_TUPLES or of in ("self", "cls")
            if _is_private(str(name)) and not ours:
                found.append((node.lineno, name))
    return found


def _defined(tree: ast.AST) -> set[str]:
    """Return the names of what is defined in a file, attributes of `self` and fields of
    classes too.
    """
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not (
            isinstance(node, ast.FunctionDef) and _overrides(node)
        ):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif (
            isinstance(node, ast.Attribute)
            and isinstance(node.ctx, ast.Store)
            and ast.unparse(node.value) == "self"
        ):
            names.add(node.attr)
    return names


def _overrides(node: ast.FunctionDef) -> bool:
    return any(node.name in names for names in OWNERS.values())


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")
