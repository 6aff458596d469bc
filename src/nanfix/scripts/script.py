"""What can be run: a script in a file, or a module by its name."""

from dataclasses import dataclass
from pathlib import Path

from nanfix.records.errors import ScriptError
from nanfix.records.notebook_paths import is_notebook
from nanfix.source.code_file import notebook


@dataclass(frozen=True)
class Module:
    """A script given by the name of its module, as `python -m` takes it."""

    name: str

    def __str__(self):
        return self.name


Script = Path | Module


def check_script(script: Script) -> None:
    """Raise ScriptError unless there is a script or a notebook to run; a module is looked for by
    the process that runs it.
    """
    if isinstance(script, Path) and not script.is_file():
        received = "a folder" if script.is_dir() else "no such file"
        raise ScriptError(
            f"Cannot run {str(script)!r}. Expected: a Python training script. Received: "
            f"{received}. Check the path; options of nanfix stand before the script, options of "
            "the script after it."
        )
    if isinstance(script, Path) and is_notebook(script.name):
        notebook(script.read_bytes(), str(script))
