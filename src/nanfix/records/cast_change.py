"""Casts that a fix writes into a function of the user's own, as a record."""

from typing import Literal

from nanfix.records.source_places import PlacedChange


class CastChange(PlacedChange):
    """Let the function at `line` of `file` cast what it is given, but for itself, to this dtype
    before anything else.
    """

    kind: Literal["cast"] = "cast"
    file: str
    line: int
    dtype: str

    @property
    def subject(self):
        return self.kind, self.file, self.line

    @property
    def where(self):
        return f"{self.file}:{self.line}"

    def __str__(self):
        return f"what the loss is given cast to {self.dtype}"
