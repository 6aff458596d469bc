"""Edits and fixes: what was changed, as plain data that can be written down and applied again."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from nanfix.registry import get
from nanfix.setup import Setup


@dataclass(frozen=True)
class Edit:
    """One strategy and its parameters, all of it plain JSON."""

    strategy: str
    params: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self):
        return get(self.strategy).explain(self.params)

    def as_json(self) -> dict[str, Any]:
        return {"strategy": self.strategy, **self.params}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Edit":
        return cls(get(data["strategy"]).name, {key: value for key, value in data.items() if key != "strategy"})


@dataclass(frozen=True)
class Fix:
    """The edits, in the order they are applied. Falsy when there is none."""

    edits: tuple[Edit, ...] = ()

    @classmethod
    def from_json(cls, edits: Iterable[Mapping[str, Any]]) -> "Fix":
        """Return the fix of these edits, each as `Edit.as_json` writes it. Raises UnknownStrategyError."""
        return cls(tuple(Edit.from_json(edit) for edit in edits))

    def __bool__(self):
        return bool(self.edits)

    def __str__(self):
        return "\n".join(str(edit) for edit in self.edits)

    @property
    def digest(self) -> str:
        """A short name by which files of this fix are told from those of another."""
        return hashlib.sha256(json.dumps([edit.as_json() for edit in self.edits], sort_keys=True).encode()).hexdigest()[:12]

    def apply(self, setup: Setup) -> Setup:
        """Return `setup` with every edit in it. Raises UnknownStrategyError before anything is changed."""
        return (setup, *self.stages(setup))[-1]

    def stages(self, setup: Setup) -> tuple[Setup, ...]:
        """Return `setup` after the first edit, after the first two, and so on to all. Raises UnknownStrategyError."""
        stages = []
        for edit in self.edits:
            strategy = get(edit.strategy)
            setup = replace(
                strategy.apply(setup, **edit.params),
                keeps_weights=setup.keeps_weights and strategy.keeps_weights,
            )
            stages.append(setup)
        return tuple(stages)
