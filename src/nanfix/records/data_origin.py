"""Where NaN and inf in the data come from: the statement of the user's code that made them."""

from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict

NAMED = 5  # columns are named up to so many
LONGEST = 100  # characters of a statement are shown


@dataclass(frozen=True)
class Argument:
    """An argument of a call: what to call it, its keyword, its position."""

    name: str
    keyword: str
    position: int


class Holes(BaseModel):
    """The non-finite numbers that a value holds: `nan` and `inf` of so many `cells`.

    `columns` are those of a table that have any, by name where the table has names; `share` is that
    of the worst column, 0 to 1.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    cells: int
    nan: int = 0
    inf: int = 0
    columns: tuple[str, ...] = ()
    share: float = 0.0

    def __bool__(self):
        return bool(self.nan or self.inf)

    def __str__(self):
        counts = ((self.nan, "NaN"), (self.inf, "inf"))
        words = " and ".join(f"{count} {word}" for count, word in counts if count)
        if not self.columns:
            return words
        word = "column" if len(self.columns) == 1 else "columns"
        more = ", ..." if len(self.columns) > NAMED else ""
        return f"{words} in {word} {', '.join(self.columns[:NAMED])}{more}"


class Line(BaseModel):
    """A statement of the user's code: its file, the number of its first line, its text."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    file: str
    line: int
    text: str

    def __str__(self):
        text = " ".join(self.text.split())
        shown = text if len(text) <= LONGEST else f"{text[:LONGEST]}..."
        return f"{self.file}:{self.line}, `{shown}`"


class Spread(BaseModel):
    """The statement that made many non-finite numbers of few: after it they are a `share` of
    `name`, of its worst column where it has `columns`; `before` is the share in what went in.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    at: Line
    name: str | None
    before: float
    share: float
    columns: bool = False

    @property
    def times(self) -> float:
        return self.share / self.before

    def __str__(self):
        what = f"{'a column of ' if self.columns else ''}"
        what += f"`{self.name}`" if self.name else "what it returns"
        return (
            f"{self.at}, spreads them, from {_percent(self.before)} of a column to "
            f"{_percent(self.share)} of {what}"
        )


class DataOrigin(BaseModel):
    """Where the non-finite numbers in an argument of `fit`, or in some, come from.

    `name` is the variable that has held them since `at`, None where that is what a function
    returns; `finite` are the variables that went into the statement and were finite. `given` says
    that no numbers went in: they come from a file, say. `spread` is the statement that made many of
    few.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    argument: str
    at: Line
    name: str | None
    holes: Holes
    finite: tuple[str, ...] = ()
    given: bool = False
    spread: Spread | None = None

    def __str__(self):
        where = f"NaN or inf in the {self.argument}"
        if self.given:
            what = f"`{self.name}` " if self.name else ""
            words = f"{where} came with the data: {self.at} gives {what}{self.holes}"
        else:
            what = f"`{self.name}` has {self.holes} since" if self.name else f"{self.holes} from"
            words = f"{where}: {what} {self.at}"
            if self.finite:
                names = ", ".join(f"`{name}`" for name in self.finite)
                words += f"; before it {names} {'was' if len(self.finite) == 1 else 'were'} finite"
        return f"{words}. {self.spread}" if self.spread is not None else words


def _percent(share: float) -> str:
    return "all" if share == 1.0 else f"{100 * share:.2g} %"
