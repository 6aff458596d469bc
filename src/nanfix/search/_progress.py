"""Show the trials of a search while it runs, one line each."""

import time

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from nanfix.remedies.fix import Edit, Fix
from nanfix.report.trial import TrialRecord

COLUMNS = ("fix", "started from", "steps", "val. loss", "verdict", "seconds")
STYLES = {"works": "green", "non-finite": "red", "not learning": "yellow"}
NEWEST = 12  # finished trials are shown, so that the running ones stay in sight
PER_SECOND = 4  # how often the seconds of a running trial are drawn anew


class Progress:
    """A live table of trials on standard error. Where that is no terminal, or with
    `shown` false, nothing is written.
    """

    def __init__(self, *, shown: bool, console: Console | None = None):
        self._running: dict[str, tuple[Fix, float]] = {}
        self._ended: dict[str, TrialRecord] = {}
        console = console or Console(stderr=True)
        seen = shown and console.is_terminal
        self._live = (
            Live(console=console, refresh_per_second=PER_SECOND, get_renderable=self._table)
            if seen
            else None
        )

    def __enter__(self) -> "Progress":
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *failure: object) -> None:
        if self._live is not None:
            # A search that had nothing left to try leaves nothing behind.
            self._live.transient = not self._ended
            self._live.stop()

    def begun(self, trial: str, fix: Fix) -> None:
        self._running[trial] = fix, time.perf_counter()

    def ended(self, trial: str, record: TrialRecord | None) -> None:
        self._running.pop(trial, None)
        if record is not None:
            self._ended[trial] = record

    def _table(self) -> Table:
        ended = list(self._ended.values())  # another thread draws
        table = Table(
            *COLUMNS, title=f"nanfix: search for a fix, {len(ended)} tried", title_justify="left"
        )
        for record in ended[-NEWEST:]:
            loss = "" if record.loss is None else f"{record.loss:.4g}"
            verdict = Text(record.verdict, STYLES.get(record.verdict, ""))
            table.add_row(
                words(record.edits),
                record.started_from,
                str(record.steps),
                loss,
                verdict,
                f"{record.seconds:.1f}",
            )
        for fix, begun in list(self._running.values()):
            table.add_row(
                words(fix.edits), "", "", "", "running", f"{time.perf_counter() - begun:.1f}"
            )
        return table


def words(edits: tuple[Edit, ...]) -> str:
    """Return edits on one line: names, and the parameters that are single numbers or names."""
    return " + ".join(f"{edit.strategy}{_parameters(edit)}" for edit in edits)


def _parameters(edit: Edit) -> str:
    single = {
        name: value for name, value in edit.params.items() if isinstance(value, float | int | str)
    }
    shown = ", ".join(
        f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in single.items()
    )
    return f" ({shown})" if shown else ""
