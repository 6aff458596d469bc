"""Lets Python read the content of a patch where a script's own files are read, and leaves the files
as they are. Loads nothing but the standard library.
"""

import importlib.util
import linecache
import os
from collections.abc import Mapping
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import Any


def read_instead(sources: Mapping[str, str]) -> None:
    """Let every import in this process, and whoever shows a line of source, read other files.

    Args:
        sources: by the absolute path of a file, that of the one which is read instead.
    """
    held = {os.path.realpath(path): Path(copy).read_bytes() for path, copy in sources.items()}
    get_data, path_stats = SourceFileLoader.get_data, SourceFileLoader.path_stats
    updatecache = linecache.updatecache

    def patched_data(loader: SourceFileLoader, path: str) -> bytes:
        content = held.get(os.path.realpath(path))
        return get_data(loader, path) if content is None else content

    def patched_stats(loader: SourceFileLoader, path: str) -> Mapping[str, object]:
        if os.path.realpath(path) in held:
            raise OSError(f"{path} is read elsewhere")  # so its compiled code is not used
        return path_stats(loader, path)

    def patched_lines(filename: str, module_globals: dict[str, Any] | None = None) -> list[str]:
        content = held.get(os.path.realpath(filename))
        if content is None:
            return updatecache(filename, module_globals)
        lines = importlib.util.decode_source(content).splitlines(keepends=True)
        # Without a time, it is not compared with the file.
        linecache.cache[filename] = (len(content), None, lines, filename)
        return lines

    SourceFileLoader.get_data = patched_data  # type: ignore[method-assign]
    SourceFileLoader.path_stats = patched_stats  # type: ignore[method-assign]
    linecache.updatecache = patched_lines  # AutoGraph has it read the lines of a function anew
