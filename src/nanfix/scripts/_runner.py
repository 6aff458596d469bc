"""What runs a script, a notebook or a module as the main program of its process."""

from collections.abc import Callable

from nanfix.records.notebook_paths import is_notebook
from nanfix.scripts._as_main import run_as_main, run_module_as_main


def runner(script: str, module: bool) -> Callable[[str, list[str]], None]:
    """Return what runs the script, given the same name and its arguments."""
    if module:
        return run_module_as_main
    if is_notebook(script):
        from nanfix.scripts._as_notebook import run_notebook_as_main  # of an extra

        return run_notebook_as_main
    return run_as_main
