"""A report as files: fix.json, the trained model, and a Python snippet that applies the fix."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from pprint import pformat
from typing import TYPE_CHECKING

from nanfix.model.faults import is_raised_by_nanfix
from nanfix.records.atomic import check_writable, replacing, unwritable, write_text
from nanfix.records.errors import NanfixError
from nanfix.remedies.fix import Edit, Fix
from nanfix.remedies.registry import get
from nanfix.report.fix_file import FixFile, load, read_fix, repaired_call, run_record

if TYPE_CHECKING:  # a report exports itself
    import keras

    from nanfix.report.report import Report

__all__ = [
    "FIX",
    "MODEL",
    "by_hand",
    "copy_model",
    "export",
    "fix_paths",
    "read_fix",
    "save_model",
    "snippet",
    "to_json",
    "write_fix",
]

FIX, MODEL, SNIPPET = "fix.json", "model.keras", "snippet.py"


def to_json(report: "Report") -> str:
    """Return the text of the report's fix.json. Numbers that are not finite become null."""
    return str(FixFile(runs=[run_record(report)]))


def export(report: "Report", folder: Path) -> None:
    """Write fix.json, snippet.py and model.keras into `folder`, each of them whole or not at all.

    Raises:
        NanfixError: the folder cannot be written, or Keras cannot save the model; then
            the other two are there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / FIX, to_json(report))
        write_text(folder / SNIPPET, snippet(report.fix, report.notes))
    except OSError as error:
        raise unwritable(folder, error) from error
    save_model(report.model, folder / MODEL)


def snippet(fix: Fix, notes: Sequence[str] = ()) -> str:
    """Return a Python module that trains with `fix` and, as comments, what a person
    would write by hand for it, and what the report notes: as what a saved model does not hold.
    """
    edits = pformat([edit.as_json() for edit in fix.edits], width=116, sort_dicts=False)
    return "\n".join(
        [
            '"""Train with a fix that nanfix found, without searching again."""',
            "",
            "import nanfix",
            "",
            f"FIX = nanfix.Fix.from_json(\n    {edits.replace(chr(10), chr(10) + '    ')}\n)",
            "",
            "",
            "def train(model, X, y=None, **fit_kwargs):",
            (
                '    """Train the compiled `model` as `model.fit(X, y, **fit_kwargs)` would, with '
                'the fix."""'
            ),
            "    return nanfix.fit(model, X, y, fix=FIX, **fit_kwargs)",
            "",
            "",
            "# The same by hand, without nanfix:",
            *by_hand(fix),
            *(["", "# What the report notes:"] if notes else []),
            *(f"# {note}" for note in notes),
            "",
        ]
    )


def by_hand(fix: Fix) -> list[str]:
    """Return, as lines of comments, what a person would write for a fix without nanfix."""
    lines = [line for edit in fix.edits for line in _by_hand(edit)]
    return lines or ["# nothing: this run needed no fix"]


def _by_hand(edit: Edit) -> list[str]:
    strategy = get(edit.strategy)
    lines = [f"# {strategy.explain(edit.params)}", *strategy.snippet(edit.params).splitlines()]
    commented = [line if line.startswith("#") else f"#     {line}".rstrip() for line in lines]
    return list(dict.fromkeys(commented)) if len(commented) == 2 else commented


def save_model(model: "keras.Model", path: Path) -> None:
    """Write the model to `path`, which ends in ".keras", whole or not at all.

    Raises:
        NanfixError: Keras cannot save the model, or the path cannot be written.
    """
    try:
        with replacing(path) as temporary:
            model.save(temporary)
    except OSError as error:
        raise unwritable(path, error) from error
    except Exception as error:  # Keras', or whatever a get_config of the user's raises
        if is_raised_by_nanfix(error):
            raise
        raise NanfixError(
            f"{path.name} was not written to {str(path.parent)!r}. Expected: a model that "
            f"`model.save` can write. Received: {type(error).__name__}: "
            f"{str(error).splitlines()[0] if str(error) else error}. Give its custom classes a "
            "get_config and register them, or keep the weights with `model.save_weights`."
        ) from error


def fix_paths(out: Path | None, run_dir: Path | None) -> list[Path]:
    """Return where the fix.json of a repair goes: to `out`, and into the folder of the run, which
    is made.

    Raises:
        NanfixError: one of them cannot be written.
    """
    paths = [path for path in (out, run_dir and run_dir / FIX) if path]
    for path in paths:
        check_writable(path, folders=path != out)
    return paths


def write_fix(content: FixFile, paths: Sequence[Path]) -> None:
    """Write a fix.json to each of these paths, whole or not at all.

    Raises:
        NanfixError: one of them cannot be written.
    """
    for path in paths:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_text(path, str(content))
        except OSError as error:
            raise unwritable(path, error) from error


def copy_model(fix: Path, path: Path, *, call: int | None = None) -> None:
    """Copy the repaired model that is kept beside the file `fix` to `path`, whole or not at all.

    Args:
        fix: the fix.json in the run_dir of a repair, or in a folder written by `report.export`.
        call: the number of the fit call, where a script made several.

    Raises:
        FixFormatError, UnknownStrategyError: as in `read_fix`.
        NanfixError: no model is kept there, or `path` cannot be written.
    """
    number = repaired_call(fix, load(fix), call)
    places = [fix.parent / f"call-{number}" / MODEL, fix.parent / MODEL]
    kept = next((place for place in places if place.is_file()), None)
    if kept is None:
        raise NanfixError(
            f"No repaired model is kept beside {str(fix)!r}. Expected: a {MODEL} in the run_dir of "
            f"a repair. Received: {str(fix.parent)!r}. Repair again with a run_dir; it keeps the "
            "model where Keras can save it."
        )
    try:
        with replacing(path) as temporary:
            shutil.copyfile(kept, temporary)
    except OSError as error:
        raise unwritable(path, error) from error
