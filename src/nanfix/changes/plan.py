"""The plan: everything that a fix changes about a training, as plain data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeVar

from nanfix.changes.change import Change

if TYPE_CHECKING:
    import keras

    from nanfix.model.run import Run

C = TypeVar("C", bound=Change)


@dataclass(frozen=True)
class Plan:
    """What is to be changed about a training, one change of each kind; as it is made, nothing.

    `keeps_weights` says whether weights trained before the failure still mean something
    with these changes.
    """

    changes: Mapping[str, Change] = field(default_factory=dict)
    keeps_weights: bool = True

    def __iter__(self) -> Iterator[Change]:
        """Yield the changes in the order in which they are installed."""
        yield from sorted(self.changes.values(), key=lambda change: (change.order, change.kind))

    def of(self, kind: type[C]) -> C:
        """Return the change of a kind; one that changes nothing where the plan has none."""
        found = self.changes.get(kind.kind)
        return found if isinstance(found, kind) else kind()

    def with_change(self, change: Change) -> Plan:
        """Return the plan with one more change, which is joined with what it has of that kind."""
        before = self.changes.get(change.kind)
        joined = (
            change if before is None or type(before) is not type(change) else before.joined(change)
        )
        return replace(self, changes={**self.changes, change.kind: joined})

    def only(self, *kinds: type[Change]) -> Plan:
        """Return the plan with the changes of these kinds alone."""
        wanted = {kind.kind for kind in kinds}
        return replace(
            self, changes={name: each for name, each in self.changes.items() if name in wanted}
        )

    @property
    def addresses(self) -> frozenset[str]:
        """The addresses of the layers that the changes name."""
        return frozenset().union(*(change.addresses for change in self.changes.values()))

    def callbacks(
        self, run: Run, callbacks: Sequence[keras.callbacks.Callback]
    ) -> list[keras.callbacks.Callback]:
        """Return the callbacks to train with, made of the user's."""
        made = list(callbacks)
        for change in self:
            made = change.callbacks(run, made)
        return made

    def check(self, run: Run) -> None:
        """Raise InputError when a change names a layer or an input that the run has not."""
        for change in self:
            change.check(run)
