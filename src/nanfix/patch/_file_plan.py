"""What is to be changed in one file, collected first and then made at once."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import libcst as cst

from nanfix.patch._formatting import Beside, after_imports, blank_lines, header, with_elements


@dataclass
class FilePlan:
    """What is to be changed in one file: its nodes, statements and elements beside them, and what
    comes behind its imports.
    """

    changes: dict[cst.CSTNode, list[Callable[[Any], Any]]] = field(
        default_factory=lambda: defaultdict(list)
    )
    before: dict[cst.CSTNode, list[str]] = field(default_factory=lambda: defaultdict(list))
    after: dict[cst.CSTNode, list[str]] = field(default_factory=lambda: defaultdict(list))
    elements: dict[cst.CSTNode, list[Beside]] = field(default_factory=lambda: defaultdict(list))
    imports: list[str] = field(default_factory=list)
    constants: list[str] = field(default_factory=list)
    definitions: list[str] = field(default_factory=list)

    def copy(self) -> "FilePlan":
        """Return a plan to which more can be added, this one staying as it is."""
        changes, before, after, elements = map(
            _copied, (self.changes, self.before, self.after, self.elements)
        )
        return FilePlan(
            changes,
            before,
            after,
            elements,
            list(self.imports),
            list(self.constants),
            list(self.definitions),
        )

    def made_in(self, module: cst.Module) -> cst.Module:
        """Return the module with every planned change in it."""
        changed = module.visit(_Changer(self))
        pairs = enumerate(zip(module.body, changed.body, strict=False))
        # A notebook that was exported goes on importing behind what uses the constants.
        first = next((n for n, (old, new) in pairs if not old.deep_equals(new)), len(module.body))
        place = after_imports(changed, first)
        added = [*header(self.imports, 0), *header(self.constants, 1), *header(self.definitions, 2)]
        rest = list(changed.body[place:])
        if rest and added:
            apart = 2 if self.definitions else 1 if self.constants else 0
            blank = [line for line in rest[0].leading_lines if line.comment is None]
            rest[0] = rest[0].with_changes(
                leading_lines=[*blank_lines(apart - len(blank)), *rest[0].leading_lines]
            )
        return changed.with_changes(body=[*changed.body[:place], *added, *rest])


def _copied(planned: Mapping[cst.CSTNode, list[Any]]) -> dict[cst.CSTNode, list[Any]]:
    return defaultdict(list, {node: list(each) for node, each in planned.items()})


class _Changer(cst.CSTTransformer):
    """Makes the planned changes, those inside a node before its own."""

    def __init__(self, plan: FilePlan):
        super().__init__()
        self._plan = plan

    def on_leave(self, original_node, updated_node):
        plan, updated = self._plan, super().on_leave(original_node, updated_node)
        if original_node in plan.elements:
            updated = with_elements(updated, plan.elements[original_node])
        for change in plan.changes.get(original_node, ()):
            updated = change(updated)
        before, after = (
            _statements(lines.get(original_node, ())) for lines in (plan.before, plan.after)
        )
        if not before and not after:
            return updated
        statement: Any = updated
        if before:  # comments and blank lines in front of the statement stay in front of all
            before[0] = before[0].with_changes(leading_lines=statement.leading_lines)
            statement = statement.with_changes(leading_lines=())
        return cst.FlattenSentinel([*before, statement, *after])


def _statements(lines: Iterable[str]) -> list[cst.SimpleStatementLine | cst.BaseCompoundStatement]:
    return [statement for line in lines for statement in cst.parse_module(f"{line}\n").body]
