"""Edits and fixes: what was changed, as plain data that can be written down and applied again."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from nanfix.changes.change import Lasts
from nanfix.changes.plan import Plan
from nanfix.model.addresses import described
from nanfix.model.run import Run
from nanfix.records.errors import InputError
from nanfix.remedies.registry import get


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
        return cls(
            get(data["strategy"]).name,
            {key: value for key, value in data.items() if key != "strategy"},
        )


@dataclass(frozen=True)
class Fix:
    """The edits, in the order they are applied. Falsy when there is none.

    `layers` are class and weight shapes of the layers, by address, of the model it was found for,
    as `run_dir.fingerprint` describes them; None where that is not known. One that is `carried`
    over from another training is given up where it does not work, and searched for anew.
    """

    edits: tuple[Edit, ...] = ()
    layers: Mapping[str, Any] | None = field(default=None, compare=False)
    carried: bool = field(default=False, compare=False)

    @classmethod
    def from_json(
        cls, edits: Iterable[Mapping[str, Any]], layers: Mapping[str, Any] | None = None
    ) -> "Fix":
        """Return the fix of these edits, each as `Edit.as_json` writes it. Raises
        UnknownStrategyError.
        """
        return cls(tuple(Edit.from_json(edit) for edit in edits), layers)

    def __bool__(self):
        return bool(self.edits)

    def __str__(self):
        return "\n".join(str(edit) for edit in self.edits)

    @property
    def digest(self) -> str:
        """A short name by which files of this fix are told from those of another."""
        return hashlib.sha256(
            json.dumps([edit.as_json() for edit in self.edits], sort_keys=True).encode()
        ).hexdigest()[:12]

    def lasting(self, run: Run) -> tuple[Lasts, ...]:
        """Return how long each edit stays with the repaired model. Raises as `stages`."""
        plans = (Fix((edit,)).plan(run) for edit in self.edits)
        return tuple(min((change.lasts for change in plan), default=Lasts.MODEL) for plan in plans)

    def plan(self, run: Run, before: Plan | None = None) -> Plan:
        """Return the plan that has every edit in it, and what the plan `before` has.
        Raises as `stages`.
        """
        return (before or Plan(), *self.stages(run, before))[-1]

    def stages(self, run: Run, before: Plan | None = None) -> tuple[Plan, ...]:
        """Return the plan after the first edit, after the first two, and so on to all.

        Raises:
            UnknownStrategyError: a strategy is not installed.
            InputError: a layer or an input that an edit changes is not the one that it
                was found for, or not there.
        """
        plan, stages = before or Plan(), []
        for edit in self.edits:
            strategy = get(edit.strategy)
            changed = strategy.apply(run, plan, **edit.params)
            plan = replace(changed, keeps_weights=plan.keeps_weights and strategy.keeps_weights)
            plan.check(run)
            stages.append(plan)
        for address in sorted(plan.addresses if self.layers else ()):
            self._check(address, run)
        return tuple(stages)

    def _check(self, address: str, run: Run) -> None:
        found_for, has = (self.layers or {}).get(address), described(run.members[address])
        if (
            found_for is None
            or found_for[0] != has[0]
            or (found_for[1] and has[1] and found_for[1] != has[1])
        ):
            expected = (
                f"{found_for[0]} with weights {found_for[1]}" if found_for else "no such layer"
            )
            raise InputError(
                f"The fix was found for another model: its layer {address!r} differs. Expected: "
                f"{expected}. Received: {has[0]} with weights {has[1]}. Search again for this "
                "model."
            )
