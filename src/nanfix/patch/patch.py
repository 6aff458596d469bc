"""A fix as a patch: a unified diff of the user's own files, made from the places in a fix.json,
applied only on demand.
"""

import difflib
import glob
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from nanfix.patch._placing import LeftOver, Placed, place_all
from nanfix.patch._source_files import Files
from nanfix.records.atomic import unwritable, write_bytes
from nanfix.records.errors import PatchError
from nanfix.records.notebook_paths import cell_path, is_notebook
from nanfix.report.fix_file import FixFile
from nanfix.source.code_file import digest, notebook

COPY = ".orig"


@dataclass(frozen=True)
class Patch:
    """The content of every file before and after, by its path, and what of the fix has its
    place in them and what has none.

    `done` are files that hold the fix already, each with the copy of the old one that
    lies beside it.
    """

    before: Mapping[str, bytes]
    after: Mapping[str, bytes]
    placed: tuple[Placed, ...] = ()
    left_over: tuple[LeftOver, ...] = ()
    done: Mapping[str, Path] = field(default_factory=dict)

    @property
    def is_partial(self) -> bool:
        """Whether a part of the fix is missing: the changed script may fail all the same."""
        return bool(self.left_over)

    @property
    def content(self) -> bytes:
        """The unified diff, as `git apply` and `patch -p1` take it, in the encoding of
        the files; of a notebook that of each cell, to be read.
        """
        return b"".join(_diffs(path, self.before[path], self.after[path]) for path in self.after)

    def __str__(self):
        return self.content.decode(errors="replace")


def patch_of(content: FixFile, folder: Path) -> Patch:
    """Return the patch of a fix; its files are read, and nothing is written.

    A file outside `folder`, such as one of a library of the user's own, is left alone: other
    programs run it, too.

    Args:
        folder: where `nanfix repair` was started; the paths in the fix.json count from there.

    Raises:
        PatchError: a file is not there, or neither what it was when the fix was found
            nor what the fix makes of that.
    """
    inside = {
        path: digest for path, digest in content.files.items() if _is_inside(folder / path, folder)
    }
    now = {path: _read(folder / path) for path in inside}
    kept = {
        path: copy
        for path in inside
        if (copy := _copy_of(folder / path, now[path], inside[path])) is not None
    }
    contents = {**now, **{path: copy.read_bytes() for path, copy in kept.items()}}
    files = Files(contents)
    found = list(place_all(files, content, inside))
    after = files.changed
    for path in inside:
        known = digest(contents[path], path) == inside[path]
        if not known or (path in kept and not _are_alike(path, after.get(path), now[path])):
            raise _changed(folder / path, inside[path], now[path])
    after = {path: changed for path, changed in after.items() if path not in kept}
    return Patch(
        before={path: contents[path] for path in after},
        after=after,
        placed=tuple(each for each in found if isinstance(each, Placed)),
        left_over=tuple(dict.fromkeys(each for each in found if isinstance(each, LeftOver))),
        done=kept,
    )


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


def _are_alike(path: str, made: bytes | None, now: bytes) -> bool:
    return made is not None and digest(made, path) == digest(now, path)


def _is_inside(file: Path, folder: Path) -> bool:
    return file.resolve().is_relative_to(folder.resolve())


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise PatchError(
            f"Cannot read {str(file)!r}: {error.strerror}. Expected: the script that the fix was "
            "found for. Received: no such file from here. Run it in the folder where `nanfix "
            "repair` was started."
        ) from error


def _copy_of(file: Path, content: bytes, expected: str) -> Path | None:
    """Return the copy that `apply_patch` made of a file that has changed since the fix was found;
    None where there is none.
    """
    if digest(content, file.name) == expected:
        return None
    copies = sorted(file.parent.glob(f"{glob.escape(file.name)}{COPY}*"))
    held = ((copy, digest(_read(copy), file.name)) for copy in copies)
    return next((copy for copy, found in held if found == expected), None)


def _changed(file: Path, expected: str, content: bytes) -> PatchError:
    return PatchError(
        f"{str(file)!r} has changed since the fix was found. Expected: SHA-256 {expected[:12]}... "
        f"Received: {digest(content, file.name)[:12]}... Bring the old version back, or run "
        "`nanfix repair` again."
    )


def _unused(path: Path) -> Path:
    """Return the path, or the same with a number where something stands there already."""
    number = 1
    candidate = path
    while candidate.exists():
        number += 1
        candidate = path.with_name(f"{path.name}{number}")
    return candidate


def _diffs(path: str, before: bytes, after: bytes) -> bytes:
    if not is_notebook(path):
        return _diff(path, before, after)
    cells = (notebook(content, path).cells for content in (before, after))
    pairs = [[f"{cell.source}\n".encode() for cell in pair] for pair in zip(*cells, strict=True)]
    return b"".join(_diff(cell_path(path, n), *pair) for n, pair in enumerate(pairs, 1))


def _diff(path: str, before: bytes, after: bytes) -> bytes:
    old, new = (re.findall(b"[^\n]*\n|[^\n]+", content) for content in (before, after))
    lines = difflib.diff_bytes(
        difflib.unified_diff, old, new, f"a/{path}".encode(), f"b/{path}".encode()
    )
    return b"".join(
        line if line.endswith(b"\n") else line + b"\n\\ No newline at end of file\n"
        for line in lines
    )
