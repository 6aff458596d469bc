"""Runs a script as Python would: the main program of its process, with its own arguments, paths and
traceback. Loads nothing but the standard library.
"""

import builtins
import importlib.util
import os
import runpy
import sys
from importlib.machinery import SourceFileLoader
from types import ModuleType, TracebackType

from nanfix.model.user_code import is_own


class MissingModule(Exception):
    """There is no module of the name that was to be run."""


def run_as_main(script: str, arguments: list[str]) -> None:
    """Run `script` as `python script arguments...` would."""
    path = os.path.abspath(script)
    loader = SourceFileLoader("__main__", path)
    main = ModuleType("__main__")
    vars(main).update(__file__=path, __builtins__=builtins, __loader__=loader, __cached__=None)
    sys.modules["__main__"] = main
    sys.argv = [script, *arguments]
    if not os.environ.get("PYTHONSAFEPATH"):
        sys.path.insert(0, os.path.dirname(os.path.realpath(script)))
    exec(loader.source_to_code(loader.get_data(path), path), vars(main))


def run_module_as_main(name: str, arguments: list[str]) -> None:
    """Run the module as `python -m name arguments...` would. Raises MissingModule when
    there is none of this name.
    """
    sys.modules["__main__"] = ModuleType("__main__")
    sys.argv = ["-m", *arguments]
    if not os.environ.get("PYTHONSAFEPATH"):
        sys.path.insert(0, os.getcwd())
    if not _exists(name):
        raise MissingModule(name)
    # What the interpreter itself calls for -m: only so do the module's globals stay those of
    # __main__ until Python exits.
    runpy._run_module_as_main(name)  # type: ignore[attr-defined]


def _exists(name: str) -> bool:
    """Say whether there is a module of this name; the packages that it lies in are imported."""
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError as error:
        if not f"{name}.".startswith(f"{error.name}."):
            raise  # a package that it lies in fails by itself
        return False


def script_frames(traceback: TracebackType | None) -> TracebackType | None:
    """Return `traceback` without the frames of nanfix and of those that started it."""
    frames, from_file = [], False
    while traceback is not None:
        if is_own(traceback.tb_frame.f_code.co_filename):
            if traceback.tb_frame.f_code in (run_as_main.__code__, run_module_as_main.__code__):
                frames.clear()
                from_file = traceback.tb_frame.f_code is run_as_main.__code__
        else:
            frames.append(traceback)
        traceback = traceback.tb_next
    if from_file and all(
        frame.tb_frame.f_code.co_filename.startswith("<frozen") for frame in frames
    ):
        frames.clear()  # the script did not compile
    for frame in reversed(frames):
        traceback = TracebackType(traceback, frame.tb_frame, frame.tb_lasti, frame.tb_lineno)
    return traceback
