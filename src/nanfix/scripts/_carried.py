"""With what the fit calls of a script begin: a call in a loop, or of a model that is built again at
the same place, with the fix that an earlier one was repaired with.
"""

import hashlib
import json
import weakref
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from nanfix.changes.change import Lasts
from nanfix.records.source_places import Span
from nanfix.remedies.fix import Edit, Fix
from nanfix.report.report import Outcome

if TYPE_CHECKING:
    import keras

    from nanfix.report.report import Report
    from nanfix.source.creation_sites import Places

Way = tuple[Span, ...]
STOOD = (Outcome.REPAIRED, Outcome.FINITE, Outcome.HEALTHY, Outcome.DIVERGED)
WITH = "Trained with the fix of fit call {call}{what}."
OTHERWISE = "not with {names}, since the model is compiled otherwise here"
WITHOUT = "Trained without the fix of fit call {call}, since the model is compiled otherwise here."
BEFORE = (
    "The fix was found when {calls} at the same place had trained without it. The second run and "
    "nanfix run --fix begin with it there."
)


@dataclass(frozen=True)
class Found:
    """A fix that a fit call was repaired with, or was given, and what is to be known of that call.

    `lasting` says of each edit how long it stays with a model, `compiled` how the model was
    compiled, `made` where it was made.
    """

    call: int
    fix: Fix
    lasting: tuple[Lasts, ...]
    compiled: Any
    way: Way
    made: Span | None


@dataclass(frozen=True)
class Start:
    """A fit call before it trains, and the fix that it begins with; None for none.

    `carried` is the number of the call whose fix that is, where it is not its own; then `fix` is
    what of it the model has not kept. `note` is what to say of it.
    """

    call: int
    way: Way
    made: Span | None
    model: "weakref.ref[keras.Model]"
    fix: Fix | None = None
    carried: int | None = None
    note: str = ""

    def carried_in(self, report: "Report") -> int | None:
        """Return the number of the call whose fix this one has trained with in the end; None where
        it was none, or one of its own.
        """
        held = not report.fix if self.fix is None else report.fix.carried
        return self.carried if held else None

    def words(self, report: "Report", begins: int | None) -> "tuple[str, Report]":
        """Return what to say of the call in short, or nothing where there is more to say, and the
        report with what is to be said of fixes of other calls.
        """
        well = report.outcome in (Outcome.REPAIRED, Outcome.HEALTHY)
        if self.carried_in(report) is not None and well:
            return f"{report.outcome.name}: {self.note}", report
        given_up = self.carried is not None and self.carried_in(report) is None
        notes = [self.note] if self.note and not given_up else []
        if begins is not None and begins < self.call:
            first, last = begins + 1, self.call
            calls = f"fit call {last}" if first == last else f"fit calls {first} to {last}"
            notes.append(BEFORE.format(calls=calls))
        return "", replace(report, notes=(*report.notes, *notes))


@dataclass(frozen=True)
class _Trained:
    """A fit call that has ended: of which kind of model, and whether a fix was part of it."""

    start: Start
    kind: str
    fixed: bool


@dataclass
class CarriedFixes:
    """Knows what the fit calls of a script were repaired with, and with what the next one begins.

    A call begins with the fix of the latest one at the same place that trained the same model, or a
    model that was made at the same place. What of a fix stays with a model is not made again.

    Args:
        known: fixes that calls are given from the first, by their numbers.
    """

    places: "Places"
    known: Mapping[int, Fix] = field(default_factory=dict)
    _found: list[Found] = field(default_factory=list)
    # Which model trained with which, and how often it was compiled when that was over.
    _standing: "list[tuple[weakref.ref[keras.Model], Found, int]]" = field(default_factory=list)
    _trained: list[_Trained] = field(default_factory=list)

    def start(self, call: int, model: "keras.Model", way: Way) -> Start:
        """Return with what a fit call begins."""
        made = self.places.of(model)
        start = Start(call, way, made and made.place, weakref.ref(model), self.known.get(call))
        found, since = self._earlier(start, model)
        if start.fix is not None or found is None:
            return start
        return self._carried(start, model, found, since)

    def ended(self, start: Start, report: "Report") -> int | None:
        """Take in how a fit call has ended. Where that was with a fix of its own, return the number
        of the first call that this fix is for.
        """
        carried = start.carried_in(report)
        fixed = bool(report.fix) or carried is not None
        self._trained.append(_Trained(start, _kind(report.fingerprint), fixed))
        model, found = start.model(), None
        if not report.fix or report.outcome not in STOOD:
            return None
        if carried is not None:
            found = next(each for each in self._found if each.call == carried)
        elif report.run is not None:
            found = Found(
                start.call,
                report.fix,
                report.fix.lasting(report.run),
                report.fingerprint.get("compiled"),
                start.way,
                start.made,
            )
            self._found.append(found)
        if found is not None and model is not None:
            self._standing.append((start.model, found, self.places.compilations(model)))
        return self._begins(start) if carried is None else None

    def _begins(self, start: Start) -> int:
        """Return the number of the first fit call that a fix is for which was found in this one: of
        the same kind at the same place, and without a fix of its own.

        Known beforehand, a fix is part of the whole training.
        """
        kind = next(each.kind for each in reversed(self._trained) if each.start is start)
        first = start.call
        for each in reversed(self._trained):
            alike = each.kind == kind and _are_alike(each.start, start)
            if alike and each.fixed and each.start is not start:
                break
            first = each.start.call if alike else first
        return first

    def _earlier(self, start: Start, model: "keras.Model") -> tuple[Found | None, Lasts]:
        """Return the fix of an earlier call that this one is to begin with, and of which edits:
        those that last no longer.
        """
        for reference, found, compilations in reversed(self._standing):
            if reference() is model and _place(found.way) == _place(start.way):
                same = compilations == self.places.compilations(model)
                return found, Lasts.TRAINING if same else Lasts.COMPILED
        for found in reversed(self._found):
            if start.made is not None and (found.way, found.made) == (start.way, start.made):
                return found, Lasts.MODEL
        return None, Lasts.MODEL

    def _carried(self, start: Start, model: "keras.Model", found: Found, since: Lasts) -> Start:
        from nanfix.report.run_dir import compiled  # loads TensorFlow

        wanted = [
            (edit, lasts)
            for edit, lasts in zip(found.fix.edits, found.lasting, strict=True)
            if lasts <= since
        ]
        of_compiling = any(lasts is Lasts.COMPILED for _, lasts in wanted)
        otherwise = of_compiling and compiled(model) != found.compiled
        left_out = [edit for edit, lasts in wanted if otherwise and lasts is Lasts.COMPILED]
        edits = tuple(edit for edit, _ in wanted if edit not in left_out)
        if left_out and not edits:
            return replace(start, note=WITHOUT.format(call=found.call + 1))
        what = f": {_names(edits)}" if edits else ", which stays with the model"
        what += f"; {OTHERWISE.format(names=_names(left_out))}" if left_out else ""
        return replace(
            start,
            fix=Fix(edits, found.fix.layers, carried=True) if edits else None,
            carried=found.call,
            note=WITH.format(call=found.call + 1, what=what),
        )


def _are_alike(one: Start, other: Start) -> bool:
    """Say whether two fit calls train the same model at one place, or models made at one place."""
    model = one.model()
    same_model = model is not None and model is other.model()
    same_place = one.made is not None and (one.way, one.made) == (other.way, other.made)
    return _place(one.way) == _place(other.way) if same_model else same_place


def _place(way: Way) -> Span | None:
    return next(iter(way), None)


def _kind(fingerprint: Mapping[str, Any]) -> str:
    """Return what distinguishes models of other layers or settings from this one."""
    identity = [fingerprint.get(name) for name in ("model", "compiled")]
    return hashlib.sha256(json.dumps(identity, sort_keys=True, default=str).encode()).hexdigest()


def _names(edits: "tuple[Edit, ...] | list[Edit]") -> str:
    return ", ".join(edit.strategy for edit in edits)
