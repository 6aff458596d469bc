"""The process of a patched script: runs it as Python would, where nanfix cannot be imported, and
writes down what its calls of `fit` reached.

Started as `python -P -m nanfix.scripts.plain_child JOB EVENTS SCRIPT [ARGS]...`, with the files
that `nanfix.scripts.child` has. The job says where the content of the patched files lies; it is
read in the place of the files, which stay as they are.
"""

import contextlib
import itertools
import json
import linecache
import os
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any, NoReturn

import wrapt

from nanfix.model.user_code import is_users
from nanfix.scripts._kept_files import KeptFiles
from nanfix.scripts._patched_source import read_instead
from nanfix.scripts._reached import is_finite, watch_use
from nanfix.scripts._runner import runner
from nanfix.scripts._watched_fit import Apart, watch_fit

NAME = "nanfix"


class Absent:
    """Says of nanfix, wherever it lies, that it is not there."""

    def __init__(self) -> None:
        self._there = False

    def install(self) -> None:
        sys.meta_path.insert(0, self)  # type: ignore[arg-type]
        self._forget()

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if _is_of_nanfix(name) and not self._there:
            raise ModuleNotFoundError(f"No module named {NAME!r}", name=NAME)

    @contextlib.contextmanager
    def not_absent(self) -> Iterator[None]:
        """Let nanfix be imported for a moment, by this module itself."""
        self._there = True
        try:
            yield
        finally:
            self._there = False
            self._forget()

    @staticmethod
    def _forget() -> None:
        for name in [name for name in sys.modules if _is_of_nanfix(name)]:
            del sys.modules[name]


def _is_of_nanfix(name: str) -> bool:
    return name.partition(".")[0] == NAME


class PlainFit:
    """Writes down what each fit call of the script reached, and what it used the models for after
    that; numbered as those of a script that nanfix watches.
    """

    def __init__(self, events: Path, logs: Path, absent: Absent):
        self._events, self._logs, self._absent = events, logs, absent
        self._calls = itertools.count()
        self._apart = Apart()

    def install(self, keras: ModuleType) -> None:
        """Wrap what the script trains and predicts with; runs when it imports Keras."""
        with self._absent.not_absent():
            from nanfix.recorder.logs import listed, logging_to

        def fit(model: Any, original: Any, arguments: dict[str, Any], _: FrameType) -> Any:
            call = next(self._calls)
            folder = self._logs / f"call-{call}"
            folder.mkdir(parents=True)
            with self._apart.fitting(), logging_to(folder, listed(arguments.get("callbacks"))):
                history = original(model, **arguments)
            figures = getattr(history, "history", {})
            finite, histories = is_finite(model, figures), _as_text(figures)
            self.emit(kind="fit", call=call, model=model.name, finite=finite, history=histories)
            return history

        watch_fit(keras, fit, self._apart)
        watch_use(keras, self._noted, self._apart)

    def emit(self, **event: Any) -> None:
        with self._events.open("a", encoding="utf-8") as file:
            file.write(json.dumps(event) + "\n")

    def end(self, reason: str) -> NoReturn:
        """End the process, since it cannot be run without harm."""
        self.emit(kind="obstacle", text=reason)
        os._exit(1)

    def _noted(self, method: str, place: str | None, finite: bool) -> None:
        self.emit(kind="used", method=method, place=place, finite=finite)


def _as_text(figures: dict[str, list[Any]]) -> dict[str, list[str]]:
    """Return the figures of each epoch as text, which has words for NaN and inf."""
    return {name: [str(value) for value in values] for name, values in figures.items()}


def failure(error: BaseException) -> dict[str, str]:
    """Return what a script was ended by: the kind of the error, its text, and its line in the
    user's own code.
    """
    lines = str(error).strip().splitlines() or [""]
    # TensorFlow begins with a traceback of its own, "in user code:".
    text = (lines[-1] if lines[0].endswith(":") else lines[0]).strip()
    raised = {"error": type(error).__name__, "text": text}
    places = [(each.filename, each.lineno) for each in traceback.extract_tb(error.__traceback__)]
    if isinstance(error, SyntaxError):
        places.append((error.filename or "", error.lineno))
        raised["text"] = error.msg or raised["text"]
    file, line = next((each for each in reversed(places) if is_users(each[0])), ("", None))
    if line is not None:
        raised |= {
            "place": f"{Path(file).name}:{line}",
            "line": linecache.getline(file, line).strip(),
        }
    return raised


def _folder(path: str) -> Path:
    return Path(path).parent


def main() -> None:
    job_file, events, script, *arguments = sys.argv[1:]
    job = json.loads(Path(job_file).read_text(encoding="utf-8"))
    absent, logs = Absent(), Path(job["logs"])
    watch = PlainFit(Path(events), logs, absent)
    wrapt.register_post_import_hook(watch.install, "keras")
    kept = KeptFiles(logs, [Path(events).parent, *map(_folder, job["sources"].values())], watch.end)
    wrapt.register_post_import_hook(kept.watch_h5py, "h5py")
    read_instead(job["sources"])
    run = runner(script, job["module"])
    absent.install()
    sys.dont_write_bytecode = True
    kept.watch()
    try:
        run(script, arguments)
    except Exception as error:
        watch.emit(kind="raised", **failure(error))
        raise
    except SystemExit as end:
        if end.code and end.__cause__ is not None:  # a cell of a notebook has failed
            watch.emit(kind="raised", **failure(end.__cause__))
        raise


if __name__ == "__main__":
    main()
