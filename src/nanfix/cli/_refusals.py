"""What the command line makes of its arguments, and what it refuses before anything is run."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nanfix.records.errors import InputError
from nanfix.records.notebook_paths import is_notebook

if TYPE_CHECKING:
    from nanfix.scripts.script import Script

REPAIRED = Path("repaired.keras")


def names(option: str, text: str) -> list[str]:
    """Return the names in a comma-separated list. Raises InputError when there are none."""
    found = [name.strip() for name in text.split(",") if name.strip()]
    if not found:
        raise InputError(
            f"{option} names no strategy. Expected: names separated by commas. Received: {text!r}. "
            "Leave the option out, or see `nanfix strategies`."
        )
    return found


def program(script: Path | None, module: bool) -> "Script":
    """Return the script that is meant, by its file or, with -m, by its module's name.

    Raises:
        InputError: none is given.
        ScriptError: there is no such script.
    """
    from nanfix.scripts.script import Module, check_script

    if script is None:
        raise InputError(
            "Missing argument SCRIPT. Expected: a script, or a module with -m. Received: none."
        )
    meant = Module(str(script)) if module else script
    check_script(meant)
    return meant


def to_save(
    script: Path | None, module: bool, model: Path | None, save: Path | None
) -> dict[str, Path]:
    """Return by its option the file that a repaired model or a patched notebook is written to; of
    a script there is none.
    """
    if model is not None:
        return {"--save": save or REPAIRED}
    if script is not None and not module and is_notebook(script.name):
        return {"--save": save or script.with_suffix(f".patched{script.suffix}")}
    return {}


def check_subject(
    script: Path | None, module: bool, model: Path | None, saved: Mapping[str, Any]
) -> None:
    """Raise InputError unless there is either a script or a saved model with its data,
    and only its own options.
    """
    given = [option for option, value in saved.items() if value is not None]
    if model is None and (script is None or given):
        raise InputError(
            "Missing argument: what to train. Expected: a SCRIPT, or --model and --data. "
            f"Received: {f'{given[0]} without --model' if given else 'neither'}. Options of nanfix "
            "stand before the script, the script's own after it."
        )
    if model is not None and (script is not None or module or "--data" not in given):
        raise InputError(
            "A saved model is trained by itself, on data. Expected: --model FILE --data FILE, and "
            "no script. Received: "
            f"{'--model without --data' if '--data' not in given else '--model and a script'}."
        )


def check_new(paths: Mapping[str, Path], force: bool) -> None:
    """Raise InputError when a file that is to be written exists, unless it may be replaced."""
    for option, path in paths.items():
        if path.exists() and not force:
            raise InputError(
                f"{str(path)!r} exists already. Expected: a new file. Received: {option} {path}. "
                f"Choose another with {option}, or replace it with --force."
            )
