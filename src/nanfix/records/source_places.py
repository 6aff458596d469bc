"""Where something stands in the user's source, as records: a piece of it, a call that makes objects
there, and what every change of it has.
"""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from nanfix.records.notebook_paths import file_of

FROZEN = ConfigDict(extra="forbid", frozen=True)


class Span(BaseModel):
    """Where an expression stands: lines count from 1, columns from 0 in bytes of UTF-8,
    as Python's parser has them.
    """

    model_config = FROZEN

    file: str
    line: int
    column: int
    end_line: int
    end_column: int

    def __str__(self):
        return f"{self.file}:{self.line}"


class Made(BaseModel):
    """The call that makes objects of the class `callee`: of `made` objects that it
    made, `changed` are changed alike.
    """

    model_config = FROZEN

    place: Span
    callee: str
    changed: int = 1
    made: int = 1


# Fields of a change that are calls in the source.
CALLS = ("target", "otherwise", "compiled", "fit")


class PlacedChange(BaseModel):
    """One change of the source. `edits` are the positions, among the edits of the fix,
    of those that want it.
    """

    model_config = FROZEN

    edits: list[int] = Field(default_factory=list)

    @property
    def subject(self) -> tuple[object, ...]:
        """What of the source it changes; two changes of one subject in one run are
        stages of the same change.
        """
        raise NotImplementedError

    @property
    def where(self) -> str | None:
        """The place as "file.py:LINE"."""
        raise NotImplementedError

    def joined(self, later: Any) -> Any:
        """Return what this and a later change of the same subject, by another kind of
        change of one plan, come to.
        """
        return later

    @property
    def paths(self) -> list[str]:
        """The paths of the files it may go into."""
        calls = [made for name in CALLS if (made := getattr(self, name, None)) is not None]
        own = [file for file in [getattr(self, "file", None)] if file is not None]
        return [file_of(path) for path in (*own, *(made.place.file for made in calls))]
