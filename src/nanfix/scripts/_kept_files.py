"""Keeps what a process writes over, so that it can be put back when the process has ended. Loads
nothing but the standard library.

Python tells of every file that it opens, renames or removes; h5py is asked. What other libraries
write by themselves (a SavedModel, a checkpoint of TensorFlow) is not seen.
"""

import contextlib
import functools
import hashlib
import json
import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

JOURNAL = "journal.jsonl"
MOST_BYTES = 4 << 30  # that are copied
HERE = -1  # a path that does not count from an open folder
# By the event: which of its arguments are paths that change, and which are open folders.
CHANGED = {
    "os.rename": (0, 2, slice(2, None)),
    "os.remove": (0, 1, slice(1, None)),
    "os.mkdir": (0, 1, slice(2, None)),
    "os.link": (1, 2, slice(2, None)),
    "os.symlink": (1, 2, slice(2, None)),
    "os.truncate": (0, 1, slice(0, 0)),
    "sqlite3.connect": (0, 1, slice(0, 0)),
}
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class KeptFiles:
    """Copies each file into `folder` before this process, or one that it forks, first changes it.

    Args:
        folder: where the copies go, and a journal of what was changed.
        own: folders in which nothing is kept.
        too_large: called with the reason when more would have to be copied than is sensible.
    """

    def __init__(self, folder: Path, own: Sequence[Path], too_large: Callable[[str], None]):
        self._folder, self._too_large = folder.absolute(), too_large
        self._own = tuple(f"{os.path.realpath(each)}{os.sep}" for each in (folder, *own))
        self._busy = threading.local()
        self._bytes = 0
        folder.mkdir(parents=True, exist_ok=True)

    def watch(self) -> None:
        sys.addaudithook(self._heard)

    def watch_h5py(self, h5py: ModuleType) -> None:
        """Watch the files of h5py, which Python does not open itself."""
        original = h5py.File.__init__

        @functools.wraps(original)
        def opened(file, name, mode="r", *args, **kwargs):
            if mode != "r":
                self._keep(name)
            original(file, name, mode, *args, **kwargs)

        h5py.File.__init__ = opened

    def _heard(self, event: str, given: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = given
            if isinstance(flags, int) and flags & WRITES:
                self._keep(path)
        elif event in CHANGED:
            first, end, folders = CHANGED[event]
            if all(each == HERE for each in given[folders]):  # else it is a part of an rmtree
                for path in given[first:end]:
                    self._keep(path)
        elif event == "shutil.rmtree":
            for folder, _, files in os.walk(given[0]):
                for name in files:
                    self._keep(os.path.join(folder, name))

    def _keep(self, path: Any) -> None:
        if getattr(self._busy, "now", False) or not isinstance(path, str | bytes | os.PathLike):
            return
        with self._alone():
            whole = os.path.abspath(os.fsdecode(path))
            if not os.path.realpath(whole).startswith(self._own):
                self._note(whole)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Leave what is done inside unheard."""
        self._busy.now = True
        try:
            yield
        finally:
            self._busy.now = False

    def _note(self, path: str) -> None:
        copy = self._folder / hashlib.sha256(path.encode(errors="surrogatepass")).hexdigest()
        if copy.exists() or (os.path.lexists(path) and not os.path.isfile(path)):
            return  # a folder or a device is not changed by it
        if os.path.isfile(path):
            self._bytes += os.path.getsize(path)
            if self._bytes > MOST_BYTES:
                self._too_large(f"it writes over more than {MOST_BYTES >> 30} GiB")
            shutil.copy2(path, copy)
        else:
            copy.touch()
        entry = {"path": path, "copy": str(copy), "new": not os.path.lexists(path)}
        with (self._folder / JOURNAL).open("a", encoding="utf-8") as journal:
            journal.write(json.dumps(entry) + "\n")


def put_back(folder: Path) -> None:
    """Give every file the content that was kept of it, and take away what was made."""
    journal = folder / JOURNAL
    if not journal.exists():
        return
    entries = [json.loads(line) for line in journal.read_text(encoding="utf-8").splitlines()]
    for entry in (each for each in entries if not each["new"]):
        path, copy = Path(entry["path"]), Path(entry["copy"])
        if _stamp(path) != _stamp(copy):
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(copy, path)
    made = [Path(entry["path"]) for entry in entries if entry["new"]]
    for path in sorted(made, key=lambda each: len(each.parts), reverse=True):
        if path.is_dir() and not path.is_symlink():
            with contextlib.suppress(OSError):  # it holds what was not seen
                path.rmdir()
        else:
            path.unlink(missing_ok=True)


def _stamp(path: Path) -> tuple[int, int] | None:
    """Return when a file was written and how large it is; None where there is none."""
    return (path.stat().st_mtime_ns, path.stat().st_size) if path.exists() else None
