"""Where something stands in the user's source, as records: a piece of it, and a call
that makes objects there.
"""

from pydantic import BaseModel, ConfigDict

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
