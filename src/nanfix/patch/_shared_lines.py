"""A call of the source may make, compile or train several things: it is changed only
for all of them.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable

import libcst as cst

from nanfix.patch._source_files import Files, Source
from nanfix.records.errors import NoPlaceError
from nanfix.records.source_changes import SourceChange
from nanfix.records.source_places import CALLS, Made

Alike = Callable[[Made], bool]  # says of a call whether all that it makes is changed alike


def only(files: Files, made: Made, alike: Alike) -> tuple[Source, cst.Call]:
    """Return the file and the call at a place.

    Raises:
        NoPlaceError: it is not there, or is also that of things which are not to be changed.
    """
    source, call = files.call(made)
    if not alike(made):
        raise NoPlaceError(
            f"the call at {made.place} also makes others, which have to stay as they are"
        )
    return source, call


def alone(files: Files, made: Made | None, alike: Alike) -> tuple[Source, cst.Call] | None:
    """Return the file and the call at a place as `only` does, None where it raises."""
    try:
        return None if made is None else only(files, made, alike)
    except NoPlaceError:
        return None


class Sharing:
    """Knows of all changes of a fix which of them meet at one place."""

    def __init__(self, changes: Iterable[SourceChange]):
        self._contents: dict[object, set[str]] = defaultdict(set)
        self._changed: Counter[object] = Counter()
        for change in changes:
            self._contents[_place(change)].add(described(change))
            for made in _calls(change):
                self._changed[made.place, made.callee, described(change)] += made.changed

    def contested(self, change: SourceChange) -> bool:
        """Say whether other changes are wanted at the place of this one."""
        return len(self._contents[_place(change)]) > 1

    def alike(self, change: SourceChange) -> Alike:
        """Return what says of a call whether all that it makes is changed like this."""
        return lambda made: self._changed[made.place, made.callee, described(change)] >= made.made


def described(change: SourceChange) -> str:
    """Return a change as text, without the edits that want it and without how many
    things it changes.
    """
    counts = {"changed": True, "made": True}
    counted = (name for name in (*CALLS, "model") if name in type(change).model_fields)
    return change.model_dump_json(exclude={"edits": True, **dict.fromkeys(counted, counts)})


def _calls(change: SourceChange) -> list[Made]:
    found = [getattr(change, name, None) for name in CALLS]
    return [made for made in found if made is not None]


def _place(change: SourceChange) -> tuple[object, ...]:
    """Return where a change is, and of what, so that another one of the same can be told."""
    calls = _calls(change)
    of = [part for part in change.subject if isinstance(part, str | int)]
    return change.kind, calls[0].place if calls else change.where, *of
