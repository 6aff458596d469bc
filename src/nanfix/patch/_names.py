"""The names that a file has for packages and what is in them, so that new code is
written as the rest of it is.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import libcst as cst
from libcst.metadata import ImportAssignment, MetadataWrapper, ScopeProvider

PACKAGES = {"keras": "import keras", "np": "import numpy as np", "tf": "import tensorflow as tf"}
FULL = {"np": "numpy", "tf": "tensorflow"}
NOTHING: Mapping[str, str] = MappingProxyType({})


class LocalNames:
    """What the imports of a module make known, and its quotes; `missing` collects the
    imports that it lacks.
    """

    def __init__(self, module: cst.Module, strings: list[str]):
        self._known, self._renamed = _imported(module)
        self._quote = "'" if sum(s[0] == "'" for s in strings) > len(strings) / 2 else '"'

    def original(self, name: str) -> str:
        """Return the name that the library has for what the file has imported under another."""
        return self._renamed.get(name, name)

    def full(self, dotted: str) -> str:
        """Return what a dotted name stands for in full, as far as the imports tell:
        "tensorflow.math.log".
        """
        head, _, rest = dotted.partition(".")
        full = next((full for full, name in self._known.items() if name == head), head)
        return f"{full}.{rest}" if rest else full

    def written(self, code: Any, missing: list[str], vectors: Mapping[str, str] = NOTHING) -> Any:
        """Return code in which `keras`, `np` and `tf` have the file's own names; imports that it
        lacks go to `missing`.

        `vectors` says what is written in the place of the vectors that the code names.
        """
        return code.visit(
            _Localized(lambda dotted: self._local(dotted, missing), vectors, self._quote)
        )

    def _local(self, dotted: str, missing: list[str]) -> str:
        """Return a dotted name as this file has it."""
        head, _, rest = dotted.partition(".")
        full = ".".join(filter(None, (FULL.get(head, head), rest)))
        parts = full.split(".")
        for length in range(len(parts), 0, -1):
            name = self._known.get(".".join(parts[:length]))
            if name is not None:
                return ".".join([name, *parts[length:]])
        through_tensorflow = head == "keras" and any(
            known.startswith("tensorflow.keras") for known in self._known
        )
        statement = "from tensorflow import keras" if through_tensorflow else PACKAGES[head]
        if statement not in missing:
            missing.append(statement)
        return dotted


def _imported(module: cst.Module) -> tuple[dict[str, str], dict[str, str]]:
    """Return the names that a module imports by what they stand for in full, and the last names
    behind renamed ones.

    `tf.keras` and `tensorflow.keras` are keras. Imports in a `try` count; one in an
    `if` need not have happened.
    """
    known: dict[str, str] = {}
    renamed: dict[str, str] = {}
    certain = module.with_changes(
        body=[part for part in module.body if not isinstance(part, cst.If)]
    )
    scopes = MetadataWrapper(certain, unsafe_skip_copy=True).resolve(ScopeProvider).values()
    for assignment in next(
        (list(scope.globals.assignments) for scope in scopes if scope is not None), []
    ):
        if not isinstance(assignment, ImportAssignment) or getattr(assignment.node, "relative", ()):
            continue
        full = next(iter(assignment.get_qualified_names_for(assignment.name))).name
        known.setdefault(full, assignment.name)
        if isinstance(assignment.node, cst.ImportFrom):
            renamed[assignment.name] = full.rpartition(".")[2]
    for full, name in list(known.items()):
        if full == "tensorflow":
            known.setdefault("keras", f"{name}.keras")
        for prefix in ("tensorflow.keras", "tensorflow.python.keras"):
            if full == prefix or full.startswith(f"{prefix}."):
                known.setdefault(f"keras{full.removeprefix(prefix)}", name)
    return known, renamed


class _Localized(cst.CSTTransformer):
    """Puts a file's own names in the place of `keras.layers`, `np` and the like, and vectors in the
    place of their names.
    """

    def __init__(self, local: Callable[[str], str], vectors: Mapping[str, str], quote: str):
        super().__init__()
        self._local, self._vectors, self._quote = local, vectors, quote

    def visit_Attribute(self, node):
        return False  # handled as a whole

    def leave_Attribute(self, original_node, updated_node):
        dotted = cst.Module([]).code_for_node(original_node)
        if dotted.partition(".")[0] not in PACKAGES:
            return updated_node.with_changes(value=original_node.value.visit(self))
        return cst.parse_expression(self._local(dotted))

    def leave_SimpleString(self, original_node, updated_node):
        plain = original_node.value.strip("'\"")
        return (
            updated_node.with_changes(value=f"{self._quote}{plain}{self._quote}")
            if plain.isidentifier()
            else updated_node
        )

    def leave_Name(self, original_node, updated_node):
        vector = self._vectors.get(original_node.value)
        return updated_node if vector is None else cst.parse_expression(vector)
