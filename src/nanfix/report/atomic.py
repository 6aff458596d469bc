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
        f"Cannot write to {str(path)!r}: {error.strerror or error}. Expected: a path that can be created and written. "
        f"Received: {str(path)!r}. Choose another path or change its permissions."
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
    """Write `text` to `path`, whole or not at all: a killed process leaves the old file or the new one."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes, *, like: Path | None = None) -> None:
    """Write `content` as `write_text` does, with the permissions of the file `like`."""
    with replacing(path) as temporary:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if like is not None:
            shutil.copymode(like, temporary)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Hand out a temporary path beside `path`, which takes its place when all went well."""
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    temporary.unlink(missing_ok=True)
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
