"""Whose code is on the stack: the user's own, a library's, Python's, or nanfix'. Loads nothing but the standard library."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from types import FrameType

_LIBRARIES = tuple(f"{sep}{name}{sep}" for sep in ("/", "\\") for name in ("site-packages", "dist-packages"))
_PACKAGES = tuple(  # wherever they lie: `pip install --target` puts them into any folder
    f"{folder}{os.sep}"
    for name in ("keras", "tensorflow", "numpy")
    for folder in (getattr(find_spec(name), "submodule_search_locations", None) or ())
)
_OWN = str(Path(__file__).resolve().parent)
_STDLIB = str(Path(contextmanager.__code__.co_filename).parent)


def outward(frame: FrameType | None) -> Iterator[FrameType]:
    """Yield a frame and those that called it, the innermost first."""
    while frame is not None:
        yield frame
        frame = frame.f_back


def is_users(filename: str) -> bool:
    """Say whether a file is the user's own: neither a library's nor Python's nor nanfix'."""
    generated = "__autograph_generated_file" in filename  # by TensorFlow, of a tf.function of the user's
    library = filename.startswith((_STDLIB, "<", _OWN, *_PACKAGES)) or any(part in filename for part in _LIBRARIES)
    return not generated and not library


def is_own(filename: str) -> bool:
    """Say whether a file is nanfix'."""
    return filename.startswith(_OWN)


def line(frame: FrameType) -> str | None:
    """Return the line that a frame of the user's own code executes, as "file.py:LINE"; None for any other frame."""
    filename = frame.f_code.co_filename
    return f"{Path(filename).name}:{frame.f_lineno}" if is_users(filename) else None


def user_line(frame: FrameType | None) -> str | None:
    """Return the innermost line of the user's own code on the stack, as "file.py:LINE"."""
    return next(filter(None, map(line, outward(frame))), None)


def users_call(frame: FrameType | None) -> FrameType | None:
    """Return the innermost frame of the user's own code, or None where nanfix itself stands in between."""
    for outer in outward(frame):
        filename = outer.f_code.co_filename
        if is_users(filename):
            return outer
        if is_own(filename):
            return None
    return None


def span(frame: FrameType) -> tuple[int, int, int, int] | None:
    """Return where the expression that a frame executes stands in its file: line, column, end line, end column.

    Lines count from 1, columns from 0 in bytes of UTF-8, as Python's parser has them; None where Python runs without them.
    """
    position = next(islice(frame.f_code.co_positions(), frame.f_lasti // 2, None), (None,) * 4)
    line, end_line, column, end_column = position
    if line is None or end_line is None or column is None or end_column is None:
        return None
    return line, column, end_line, end_column
