"""Show what a search tries while it goes on: a table on a terminal, lines elsewhere."""

import logging
import threading
import time

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from nanfix.remedies.fix import Edit, Fix
from nanfix.report.trial import TrialRecord

log = logging.getLogger("nanfix")

COLUMNS = ("fix", "started from", "steps", "val. loss", "verdict", "seconds")
STYLES = {"works": "green", "non-finite": "red", "not learning": "yellow"}
NEWEST = 12  # finished trials are shown, so that the running ones stay in sight
PER_SECOND = 4  # how often the seconds of a running trial are drawn anew
EVERY = 15.0  # seconds until the first line; the next ones come twice as late each,
LONG = 60.0  # but after so many seconds at most. Who wants quiet sees so long a search, too.


class Progress:
    """What a search has tried and is trying, shown from entering it until leaving it, as often as
    it is entered.

    On a terminal it is a live table of trials on standard error. Elsewhere it is a line in the log
    now and then; so it is with `shown` false, where a warning shows only a long search.
    """

    def __init__(self, *, shown: bool, console: Console | None = None):
        self._running: dict[str, tuple[str, float]] = {}
        self._ended: dict[str, TrialRecord] = {}
        self._shown, self._console = shown, console or Console(stderr=True)
        self._live: Live | None = None
        self._over = threading.Event()
        self._teller: threading.Thread | None = None
        self._since = time.perf_counter()
        self._told = 0.0  # seconds since then, at the newest line
        self._earlier: list[TrialRecord] = []

    def __enter__(self) -> "Progress":
        self._running.clear()
        if self._shown and self._console.is_terminal:
            self._live = Live(
                console=self._console,
                refresh_per_second=PER_SECOND,
                get_renderable=self._table,
            )
            self._live.start()
        else:
            self._over.clear()
            self._teller = threading.Thread(target=self._tell, daemon=True)
            self._teller.start()
        return self

    def __exit__(self, *failure: object) -> None:
        if self._live is not None:
            # A search that had nothing left to try leaves nothing behind.
            self._live.transient = not self._ended
            self._live.stop()
        if self._teller is not None:
            self._over.set()
            self._teller.join()
        self._earlier += self._ended.values()
        self._ended.clear()

    def begun(self, trial: str, fix: Fix) -> None:
        self._running[trial] = words(fix.edits), time.perf_counter()

    def proving(self, fix: Fix) -> None:
        """Show a proof, which runs other trials than those that are shown."""
        self._running["proof"] = f"proof of {words(fix.edits)}", time.perf_counter()

    def comparing(self) -> None:
        """Show that the best candidates are compared over more steps."""
        self._running["comparison"] = "the best over more steps", time.perf_counter()

    def ended(self, trial: str, record: TrialRecord | None) -> None:
        self._running.pop(trial, None)
        if record is not None:
            self._ended[trial] = record

    def _tell(self) -> None:
        while True:
            due = self._told + min(max(self._told, EVERY), LONG)
            if self._over.wait(max(due - (time.perf_counter() - self._since), 0.0)):
                return
            self._told = seconds = time.perf_counter() - self._since
            aloud = self._shown or seconds >= LONG
            log.log(logging.WARNING if aloud else logging.INFO, self._line(seconds))

    def _line(self, seconds: float) -> str:
        ended = [*self._earlier, *self._ended.values()]
        work = sum(record.verdict == "works" for record in ended)
        told = f"nanfix: search for a fix, {seconds:.0f} s: {len(ended)} tried, {work} work"
        running = [
            f"{what}, {time.perf_counter() - begun:.0f} s"
            for what, begun in list(self._running.values())
        ]
        return f"{told}; now {'; '.join(running)}." if running else f"{told}."

    def _table(self) -> Table:
        ended = list(self._ended.values())  # another thread draws
        tried = len(self._earlier) + len(ended)
        table = Table(
            *COLUMNS, title=f"nanfix: search for a fix, {tried} tried", title_justify="left"
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
        for what, begun in list(self._running.values()):
            table.add_row(what, "", "", "", "running", f"{time.perf_counter() - begun:.1f}")
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
