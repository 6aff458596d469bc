"""What a fix changes in the source for all fit calls that want it, counted together."""

from collections.abc import Iterable

from nanfix.patch._shared_lines import described
from nanfix.records.source_changes import SourceChange
from nanfix.records.source_places import CALLS


def together(changes: Iterable[SourceChange]) -> list[SourceChange]:
    """Return each change of the source once, as what it changes in all fit calls that want it."""
    found: dict[str, SourceChange] = {}
    for change in changes:
        words = described(change)
        before = found.get(words)
        found[words] = change if before is None else _counted_with(before, change)
    return list(found.values())


def _counted_with(change: SourceChange, other: SourceChange) -> SourceChange:
    """Return a change that changes so many things more as the other one, which is the same."""
    counts = {
        name: (made, again)
        for name in CALLS
        if (made := getattr(change, name, None)) and (again := getattr(other, name, None))
    }
    update = {
        name: made.model_copy(update={"changed": made.changed + again.changed})
        for name, (made, again) in counts.items()
    }
    return change.model_copy(update=update)
