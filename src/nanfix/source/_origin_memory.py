"""What is known, while the user's code is followed, of values that are not finite."""

import sys
import weakref
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from nanfix.records.data_origin import DataOrigin, Holes
from nanfix.source._statements import Statement
from nanfix.source.nonfinite_values import holes, is_array, is_table, leaves

# Seconds for which a statement is looked at each time it runs; a longer loop is looked at ever more
# seldom, and when it is left.
SECONDS = 1.0


@dataclass(frozen=True)
class Origin:
    """A DataOrigin without the argument; `order` counts them as they were found."""

    order: int
    found: DataOrigin

    def fits(self, bad: Holes) -> bool:
        """Say whether it made numbers of a kind that is among these: NaN, or inf."""
        made = self.found.holes
        return bool((made.nan and bad.nan) or (made.inf and bad.inf))

    @property
    def rank(self) -> tuple[int, float]:
        """The earliest first, and of one the farthest spread."""
        spread = self.found.spread
        return self.order, -(spread.times if spread is not None else 0.0)


@dataclass(frozen=True)
class Seen:
    """What a variable was found to hold, and where that comes from, if known: of a table, by its
    columns, too; its shape, empty where it is no array and no table.
    """

    holes: Holes | None
    origin: Origin | None = None
    shape: tuple[int, ...] = ()
    columns: Mapping[str, Origin] = field(default_factory=dict)

    def of(self, bad: Holes) -> list[Origin]:
        """Return where numbers can come from that are found in what was made of this: those in the
        columns of that name, where there are such.
        """
        same = [origin for name, origin in self.columns.items() if name in bad.columns]
        every = [*self.columns.values(), *([] if self.origin is None else [self.origin])]
        return same or every


@dataclass
class Pace:
    """How often a statement is looked at."""

    spent: float = 0.0
    runs: int = 0
    afterwards: int = 0

    def looks(self) -> bool:
        self.runs += 1
        return self.spent < SECONDS or _is_power_of_two(self.runs)

    def looks_afterwards(self) -> bool:
        """Say the same of runs that were passed over, once its loop is left."""
        self.afterwards += 1
        return _is_power_of_two(self.afterwards)


@dataclass
class Memory:
    """What the tracer knows beyond a single frame.

    `arrays` has by id those that are not finite, as long as anybody else holds them, `columns` the
    columns of those that are tables. `returned` is what was returned to nobody whom the tracer
    knows: in a thread of TensorFlow's. `fault` is what nanfix itself failed of, if it did.
    """

    count: int = 0
    paces: dict[Statement, Pace] = field(default_factory=dict)
    arrays: dict[int, tuple[weakref.ref[Any], Origin]] = field(default_factory=dict)
    columns: dict[tuple[int, str], Origin] = field(default_factory=dict)
    returned: list[Origin] = field(default_factory=list)
    fault: Exception | None = None

    def of(self, value: object, columns: Iterable[str] = ()) -> Origin | None:
        """Return where the numbers in a value come from, or those in some columns of a table."""
        for leaf in leaves(value):
            reference, origin = self.arrays.get(id(leaf), (None, None))
            if reference is not None and reference() is leaf:
                found = (self.columns.get((id(leaf), name)) for name in columns)
                return min(filter(None, found), key=lambda each: each.rank, default=origin)
        return None

    def by_column(self, value: Any) -> dict[str, Origin]:
        """Return where the numbers in the columns of a table come from; nothing of what is none."""
        if not is_table(value) or self.of(value) is None:
            return {}
        keys = [(id(value), str(name)) for name in value.columns]
        return {key[1]: self.columns[key] for key in keys if key in self.columns}

    def remember(self, value: object, origin: Origin | None) -> None:
        """Note where the numbers in a value come from; of a table, in the columns that were not
        known yet.
        """
        if origin is None:
            return
        for leaf in leaves(value):
            if is_array(leaf):
                known = self.of(leaf)
                self.arrays[id(leaf)] = weakref.ref(leaf), known or origin
                bad = holes(leaf) if is_table(leaf) else None
                for name in bad.columns if bad is not None else ():
                    key = id(leaf), name
                    if known is None or key not in self.columns:
                        self.columns[key] = origin

    def pace(self, statement: Statement) -> Pace:
        return self.paces.setdefault(statement, Pace())

    def failed(self, fault: Exception) -> None:
        """Follow nothing any more; the script goes on as if it had not been followed."""
        self.fault = fault
        sys.settrace(None)


def _is_power_of_two(number: int) -> bool:
    return not number & (number - 1)
