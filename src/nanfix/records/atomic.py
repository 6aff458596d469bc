"""Files that are written whole or not at all."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from nanfix.records.errors import NanfixError


def unwritable(path: Path, error: OSError) -> NanfixError:
    """Return the error that says why nothing can be written to `path`."""
    return NanfixError(
        f"Cannot write to {str(path)!r}: {error.strerror or error}. Expected: a path that can be "
        f"created and written. Received: {str(path)!r}. Choose another path or change its "
        "permissions."
    )


def check_writable(path: Path, *, folders: bool = False) -> None:
    """Raise NanfixError when no file can be written at `path`; nothing is left there.

    Args:
        folders: the folders that lead there may be missing, since they will be made.
    """
    folder = path.absolute().parent
    while folders and not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise unwritable(path, error) from error


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path`, whole or not at all: a killed process leaves the old file
    or the new one.
    """
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes, *, like: Path | None = None) -> None:
    """Write `content` as `write_text` does, with the permissions of the file `like`."""
    with replacing(path) as temporary:
        with temporary.open("xb") as file:
            file.write(content)
        if like is not None:
            shutil.copymode(like, temporary)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Hand out a temporary path beside `path`, which takes its place when all went well.

    The content is on disk before it gets its name, and the name when this returns: a machine that
    loses its power keeps the old file or the new one.
    """
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    temporary.unlink(missing_ok=True)
    try:
        yield temporary
        _synchronize(temporary)
        os.replace(temporary, path)
        with contextlib.suppress(OSError):  # some file systems cannot do that to a folder
            _synchronize(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _synchronize(path: Path) -> None:
    """Wait until the system has written a file or a folder to disk."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
