"""Finds out which changes of a fix have a place in the files of a script, and plans those there."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from nanfix.patch._arguments import plan
from nanfix.patch._shared_lines import Sharing, described
from nanfix.patch._source_files import Files
from nanfix.records.errors import NoPlaceError
from nanfix.records.loss_change import LossChange
from nanfix.records.rows_change import FIT_ALONE, RowsChange
from nanfix.records.source_changes import (
    CallChange,
    LayerChange,
    NoPlace,
    SourceChange,
)
from nanfix.report.fix_file import FixFile, RunRecord


@dataclass(frozen=True)
class LeftOver:
    """A part of a fix that has no place in the source: the fit call, the edit that
    wants it, and why.
    """

    call: int
    edit: str
    reason: str

    def __str__(self):
        return f"fit call {self.call + 1}, {self.edit}: {self.reason}"


@dataclass(frozen=True)
class Placed:
    """A change of the source that has its place, and the fit call that wants it."""

    call: int
    change: SourceChange


def place_all(
    files: Files, content: FixFile, inside: Collection[str]
) -> Iterator[Placed | LeftOver]:
    """Plan in the files all of a fix that has a place there; yield, call by call, what was planned
    and what was not. `inside` are the paths that may be changed.
    """
    return _Placing(files, content, inside).all()


class _Placing:
    """Plans each change once, though several fit calls may want it, and remembers what came of
    it.
    """

    def __init__(self, files: Files, content: FixFile, inside: Collection[str]):
        self._files, self._content, self._inside = files, content, inside
        self._sharing = Sharing(change for run in content.runs for change in run.source)
        self._refusals: dict[str, str | None] = {}

    def all(self) -> Iterator[Placed | LeftOver]:
        for run in self._content.runs:
            for change in run.source:
                yield from self._of(run, change)

    def _of(self, run: RunRecord, change: SourceChange) -> Iterator[Placed | LeftOver]:
        wanted: SourceChange | None = change
        if isinstance(change, RowsChange) and change.instead and self._are_filled_inside(run):
            wanted = change.without_stand_in
        if isinstance(change, LossChange) and change.weighs and self._stay_scaled(run, change):
            wanted = change.without_weight
        if wanted is None:
            return
        reason = self._refusal(change, wanted)
        if reason is None:
            yield Placed(run.call, wanted)
            return
        if isinstance(change, LayerChange) and change.fills and self._are_filled_before_fit(run):
            reason = f"{reason}; {FIT_ALONE}"
        yield from (LeftOver(run.call, run.edits[edit].strategy, reason) for edit in change.edits)

    def _stay_scaled(self, run: RunRecord, change: LossChange) -> bool:
        """Say whether what scales the outputs back, for which the loss is weighed, has no place."""
        behind = [
            each
            for each in run.source
            if isinstance(each, NoPlace | CallChange)
            or (isinstance(each, LayerChange) and each.role == "outputs")
        ]
        return any(
            self._refusal(each, each) is not None and {*each.edits} & {*change.edits}
            for each in behind
        )

    def _are_filled_inside(self, run: RunRecord) -> bool:
        layers = [each for each in run.source if isinstance(each, LayerChange) and each.fills]
        return all(self._refusal(each, each) is None for each in layers)

    def _are_filled_before_fit(self, run: RunRecord) -> bool:
        rows = [each for each in run.source if isinstance(each, RowsChange) and each.instead]
        return any(self._refusal(each, each) is None for each in rows)

    def _refusal(self, change: SourceChange, wanted: SourceChange) -> str | None:
        """Plan what is `wanted` of a change, and return why it has no place; None where it has."""
        key = described(wanted)
        if key not in self._refusals:
            self._refusals[key] = self._tried(change, wanted)
        return self._refusals[key]

    def _tried(self, change: SourceChange, wanted: SourceChange) -> str | None:
        paths = [path for path in change.paths if path in self._content.files]
        if isinstance(change, NoPlace):
            return change.reason
        if any(path not in self._inside for path in paths):
            return f"{change.where} lies outside this folder, the files of which alone are changed"
        if self._sharing.contested(change):
            return f"what shares {change.where} would need different changes there"
        try:
            plan(self._files, wanted, self._sharing.alike(change))
        except NoPlaceError as error:
            return str(error)
        return None
