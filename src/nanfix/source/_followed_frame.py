"""A running function of the user's, or a module: which of its variables are not finite, and why.

What a statement gives is non-finite because of what went into it, where that was; else the
statement itself has made it.
"""

import ast
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from types import FrameType
from typing import Any, Self

from nanfix.model.user_code import outward
from nanfix.records.data_origin import Argument, DataOrigin, Holes, Spread
from nanfix.source._origin_memory import Memory, Origin, Seen
from nanfix.source._statements import (
    MISSING,
    Access,
    Statement,
    bases,
    is_part,
    root,
    statements,
    value_of,
)
from nanfix.source.nonfinite_values import holes, leaves, shape_of

SPREADS = 2.0  # times the share of what went in, a statement has made many of few
Variables = Mapping[str, Seen]  # by the text of a variable, or of a part of one


class FollowedFrame:
    """Looks at what each statement of a frame reads before it runs, and at what it has read and
    written after.
    """

    def __init__(self, frame: FrameType, memory: Memory):
        self._frame, self._memory = frame, memory
        self._statements = statements(frame.f_code)
        self._seen: dict[str, Seen] = {}
        self._current: Statement | None = None
        self._before: Variables = {}  # what the current statement reads
        self._returned: list[Origin] = []  # by functions that it has called
        self._skipped: dict[Statement, None] = {}  # have run, and were not looked at

    @classmethod
    def of(cls, frame: FrameType) -> Self | None:
        """Return what follows a frame; None where nothing does."""
        follower = getattr(frame.f_trace, "__self__", None)
        return follower if isinstance(follower, cls) else None

    def event(self, frame: FrameType, event: str, value: object) -> Any:
        """Look at the frame; the interpreter calls this before each line, and when the function
        returns.
        """
        try:
            if event == "line":
                self._before_line(self._statements.get(frame.f_lineno), frame.f_lineno)
            elif event == "return" and self._current is not None:
                with self._paced(self._current):
                    self._return(self._current, value)
        except Exception as fault:  # it would come out of the user's line
            self._memory.failed(fault)
        return self.event

    def of_argument(
        self, method: str, argument: Argument, value: object, bad: Holes
    ) -> Origin | None:
        """Return where the numbers in an argument of a call in the current statement come from."""
        statement, known = self._current, self._memory.of(value, bad.columns)
        if known is not None or statement is None:
            return known
        accesses = statement.given_to(method, argument.keyword, argument.position)
        given = {self._value(access)[1] for access in accesses}
        reads = {text: seen for text, seen in self._before.items() if text in given or not given}
        self._returned += self._memory.returned
        return self._origin(statement, None, bad, reads, value)

    def _before_line(self, statement: Statement | None, line: int) -> None:
        done = self._current
        if done is not None and statement is done and line != done.at.line:
            return  # the next line of the same
        if done is not None:
            with self._paced(done):
                self._finish(done)
        if statement is not done:
            self._returned = []
        self._current = None
        for skipped in [each for each in self._skipped if line not in each.loop]:
            del self._skipped[skipped]
            if self._memory.pace(skipped).looks_afterwards():
                self._look_afterwards(skipped)
        if statement is None:
            return
        if not self._memory.pace(statement).looks():
            self._skipped[statement] = None
            return
        with self._paced(statement):
            self._current, self._before = statement, dict(self._reads(statement))

    def _look_afterwards(self, statement: Statement) -> None:
        """Look at what a statement has written in a loop that has been left."""
        reads = dict(self._reads(statement))
        changed = [access for access in statement.mentioned if statement.changes(access)]
        # Which part it has written is not known any more.
        changed += [base for access in statement.writes for base in bases(access)]
        texts = {self._value(access)[1] for access in changed}
        unknown = {t for t in texts if t in self._seen and not self._seen[t].origin}
        self._seen = {text: seen for text, seen in self._seen.items() if text not in unknown}
        self._before = {text: seen for text, seen in reads.items() if text not in unknown}
        self._finish(statement, changed)

    def _return(self, statement: Statement, value: object) -> None:
        before, bad, origin = self._before, holes(value), None
        self._finish(statement)
        if bad:
            for leaf in leaves(value):
                of_leaf = holes(leaf)
                if of_leaf:
                    origin = self._memory.of(leaf, of_leaf.columns)
                    origin = origin or self._origin(statement, None, of_leaf, before, leaf)
                    self._memory.remember(leaf, origin)
            origin = self._memory.of(value, bad.columns) or origin
        elif bad is None and value is not None:
            origin = self._carried(before)
        if origin is not None:
            caller = next(self._callers(), None)
            (self._memory.returned if caller is None else caller._returned).append(origin)

    def _reads(self, statement: Statement) -> Iterator[tuple[str, Seen]]:
        """Yield what a statement is about to read."""
        for access in statement.reads:
            value, text = self._value(access)
            if value is MISSING:
                continue
            if text not in self._seen:
                bad = holes(value)
                origin = self._known(access, value, bad) if bad else None
                self._seen[text] = Seen(bad, origin)
            columns = self._memory.by_column(value)
            yield text, replace(self._seen[text], columns=columns, shape=shape_of(value))

    @contextmanager
    def _paced(self, statement: Statement) -> Iterator[None]:
        """Note how long a statement is looked at."""
        began = time.perf_counter()
        yield
        self._memory.pace(statement).spent += time.perf_counter() - began

    def _finish(self, statement: Statement, changed: Iterable[ast.expr] = ()) -> None:
        """Look at what a statement has read and written, now that it has run, and at `changed`,
        which it may have written.
        """
        before, mentioned = self._before, {root(access) for access in statement.mentioned}
        old = {text: seen for text, seen in self._seen.items() if _root(text) in mentioned}
        self._seen = {text: seen for text, seen in self._seen.items() if text not in old}
        accesses = (*changed, *statement.mentioned)
        written = {id(access) for access in (*statement.writes, *changed)}
        for access in accesses:
            value, text = self._value(access)
            if value is MISSING or text in self._seen:
                continue
            bad, known = holes(value), before.get(text) or old.get(text)
            if bad is None and id(access) in written:
                self._seen[text] = Seen(None, self._carried(before))
            elif known is not None and id(access) not in written and (bad is None or known.holes):
                self._seen[text] = Seen(bad, known.origin)
            elif bad:
                origin = self._memory.of(value, bad.columns)
                origin = origin or self._origin(statement, text, bad, before, value)
                self._seen[text] = Seen(bad, origin)
                for whole in (value, *(self._value(base)[0] for base in bases(access))):
                    self._memory.remember(whole, origin)
            else:
                self._seen[text] = Seen(bad)

    def _origin(
        self, statement: Statement, name: str | None, bad: Holes, before: Variables, value: object
    ) -> Origin | None:
        """Return where the numbers in a value that a statement has given come from; None where they
        were there before, and nobody knows from where.

        Of several that went in side by side, as inputs and targets that are split together, those
        count whose rows have the same shape.
        """
        reads = [seen for seen in before.values() if seen.holes]
        if bad.inf:  # NaN becomes no inf by reckoning
            reads = [seen for seen in reads if seen.holes is not None and seen.holes.inf]
        reads = _alike(reads, shape_of(value))
        known = [*self._returned, *(origin for seen in reads for origin in seen.of(bad))]
        if not reads and not known:
            carriers = [seen.origin for seen in before.values() if seen.holes is None]
            known = [origin for origin in carriers if origin is not None]
        if known:
            fitting = [origin for origin in known if origin.fits(bad)]
            return _spread(_first(fitting or known), statement, name, bad, before)
        if reads:
            return None
        finite = tuple(
            text
            for text, seen in before.items()
            if seen.holes is not None and not seen.holes and not is_part(text, before)
        )
        self._memory.count += 1
        found = DataOrigin(
            argument="",
            at=statement.at,
            name=name,
            holes=bad,
            finite=finite,
            given=not finite and statement.calls,
        )
        return Origin(self._memory.count, found)

    def _carried(self, before: Variables) -> Origin | None:
        """Return where the numbers in an object come from that was made of what was read."""
        origins = [seen.origin for seen in before.values() if seen.origin is not None]
        return _first([*origins, *self._returned])

    def _known(self, access: Access, value: object, bad: Holes) -> Origin | None:
        """Return where the numbers come from that a variable, or a part of one, holds although no
        statement seen here has put them there.
        """
        columns = bad.columns or _column(access)
        for inside, text in ((value, ""), *map(self._value, bases(access))):
            seen = self._seen.get(text)
            origin = self._memory.of(inside, columns) or (seen and seen.origin)
            if origin is not None:
                return origin
        for caller in self._callers():
            if root(access) in self._frame.f_code.co_varnames:
                return caller._carried(caller._before)  # an argument
            seen = caller._seen.get(self._value(access)[1])
            if seen is not None:
                return seen.origin
        return None

    def _callers(self) -> Iterator["FollowedFrame"]:
        return filter(None, map(type(self).of, outward(self._frame.f_back)))

    def _value(self, access: ast.expr) -> tuple[Any, str]:
        return value_of(access, self._frame.f_locals, self._frame.f_globals)


def _alike(reads: list[Seen], shape: tuple[int, ...]) -> list[Seen]:
    """Return of arrays of the same number of rows those whose rows have the shape of the rows of
    another; all of them where there are none.
    """
    side_by_side = len({seen.shape[:1] for seen in reads}) == 1
    alike = [seen for seen in reads if shape and seen.shape[1:] == shape[1:]]
    return alike if side_by_side and alike else reads


def _spread(
    origin: Origin | None, statement: Statement, name: str | None, bad: Holes, before: Variables
) -> Origin | None:
    """Return the origin with this statement as the one that spreads it, where it does most."""
    shares = [seen.holes.share for seen in before.values() if seen.holes]
    most = max(shares, default=0.0)
    if origin is None or not most:
        return origin
    known = origin.found.spread
    if bad.share / most <= max(SPREADS, known.times if known is not None else 0.0):
        return origin
    spread = Spread(
        at=statement.at, name=name, before=most, share=bad.share, columns=bool(bad.columns)
    )
    return Origin(origin.order, origin.found.model_copy(update={"spread": spread}))


def _first(origins: Iterable[Origin]) -> Origin | None:
    return min(origins, key=lambda each: each.rank, default=None)


def _root(text: str) -> str:
    return text.partition(".")[0].partition("[")[0]


def _column(access: Access) -> tuple[str, ...]:
    """Return the column that `table["column"]` or `table.column` means."""
    if isinstance(access, ast.Attribute):
        return (access.attr,)
    if isinstance(access, ast.Subscript) and isinstance(access.slice, ast.Constant):
        return (str(access.slice.value),)
    return ()
