"""A fix as a patch: a unified diff of the user's own files, made from the places in a fix.json, applied only on demand."""

import difflib
import hashlib
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from nanfix.errors import NoPlaceError, PatchError
from nanfix.export import unwritable, write_bytes
from nanfix.rewrites import plan
from nanfix.rewriting import Files
from nanfix.schema import FixFile
from nanfix.sharing import Sharing, described
from nanfix.source import NoPlace

COPY = ".orig"


@dataclass(frozen=True)
class LeftOver:
    """A part of a fix that has no place in the source: the fit call, the edit that wants it, and why."""

    call: int
    edit: str
    reason: str

    def __str__(self):
        return f"fit call {self.call + 1}, {self.edit}: {self.reason}"


@dataclass(frozen=True)
class Patch:
    """The content of every file before and after, by its path, and what of the fix has no place in them."""

    before: Mapping[str, bytes]
    after: Mapping[str, bytes]
    left_over: tuple[LeftOver, ...] = ()

    @property
    def content(self) -> bytes:
        """The unified diff, as `git apply` and `patch -p1` take it, in the encoding of the files."""
        return b"".join(_diff(path, self.before[path], self.after[path]) for path in self.after)

    def __str__(self):
        return self.content.decode(errors="replace")


def patch_of(content: FixFile, folder: Path) -> Patch:
    """Return the patch of a fix; its files are read, and nothing is written.

    Args:
        folder: where `nanfix repair` was started; the paths in the fix.json count from there.

    Raises:
        PatchError: a file is not there, or not what it was when the fix was found.
    """
    contents = {path: _read(folder / path, digest) for path, digest in content.files.items()}
    files, left_over = Files(contents), []
    wanted = [(run, change) for run in content.runs for change in run.source]
    sharing = Sharing(change for _, change in wanted)
    done: set[str] = set()
    for run, change in wanted:
        try:
            if isinstance(change, NoPlace):
                raise NoPlaceError(change.reason)
            if sharing.contested(change):
                raise NoPlaceError(f"what shares {change.where} would need different changes there")
            if described(change) not in done:
                plan(files, change, sharing.alike(change))
                done.add(described(change))
        except NoPlaceError as error:
            left_over += [LeftOver(run.call, run.edits[index].strategy, str(error)) for index in change.edits]
    after = files.changed
    return Patch({path: contents[path] for path in after}, after, tuple(dict.fromkeys(left_over)))


def apply_patch(patch: Patch, folder: Path) -> dict[Path, Path]:
    """Write the changed files, each beside a copy of the old one; return the copies by the files.

    Raises:
        NanfixError: a file cannot be written; those after it are as they were.
    """
    copies = {}
    for path, content in patch.after.items():
        file = folder / path
        copy = _unused(file.with_name(file.name + COPY))
        try:
            shutil.copy2(file, copy)
            write_bytes(file, content, like=copy)
        except OSError as error:
            raise unwritable(file, error) from error
        copies[file] = copy
    return copies


def digest(content: bytes) -> str:
    """Return the SHA-256 of a file's content."""
    return hashlib.sha256(content).hexdigest()


def _read(path: Path, expected: str) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise PatchError(
            f"Cannot read {str(path)!r}: {error.strerror}. Expected: the script that the fix was found for. Received: no such "
            "file from here. Run it in the folder where `nanfix repair` was started."
        ) from error
    if digest(content) != expected:
        raise PatchError(
            f"{str(path)!r} has changed since the fix was found. Expected: SHA-256 {expected[:12]}... Received: "
            f"{digest(content)[:12]}... Bring the old version back, or run `nanfix repair` again."
        )
    return content


def _unused(path: Path) -> Path:
    """Return the path, or the same with a number where something stands there already."""
    number = 1
    candidate = path
    while candidate.exists():
        number += 1
        candidate = path.with_name(f"{path.name}{number}")
    return candidate


def _diff(path: str, before: bytes, after: bytes) -> bytes:
    old, new = (re.findall(b"[^\n]*\n|[^\n]+", content) for content in (before, after))
    lines = difflib.diff_bytes(difflib.unified_diff, old, new, f"a/{path}".encode(), f"b/{path}".encode())
    return b"".join(line if line.endswith(b"\n") else line + b"\n\\ No newline at end of file\n" for line in lines)
