"""The commands that take a fix out of its folder: `export` as a file, `patch` into the script."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from nanfix.cli import _options as options
from nanfix.cli import json_documents
from nanfix.cli._options import Format
from nanfix.cli._refusals import check_new
from nanfix.cli._words import console, patch_of_file
from nanfix.records.errors import ExitCode, InputError

if TYPE_CHECKING:
    from nanfix.patch.patch import Patch


def export(
    run_dir: options.Run,
    format: options.ExportFormat = Format.JSON,
    call: options.Call = None,
    out: options.ToFile = None,
    force: options.Force = False,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Write a fix, or the repaired model, to standard output or to a file."""
    from nanfix.records.atomic import check_writable, write_bytes
    from nanfix.report.export import copy_model, read_fix, snippet
    from nanfix.report.fix_file import load

    if format is Format.KERAS and out is None:
        raise InputError(
            "A model is no text. Expected: --out FILE. Received: --format keras alone. Add --out "
            "model.keras."
        )
    path = run_dir / "fix.json" if run_dir.is_dir() else run_dir
    number = None if call is None else call - 1
    if out is not None:
        check_new({"--out": out}, force)
        check_writable(out)
    content = b""
    made = patch_of_file(path) if format is Format.PATCH else None
    if made is not None:
        content = made.content  # in the encoding of the script
    elif format is Format.KERAS and out is not None:
        copy_model(path, out, call=number)
    else:
        contents = {
            Format.JSON: lambda: str(load(path)).encode(),
            Format.PYTHON: lambda: snippet(read_fix(path, call=number)).encode(),
        }
        content = contents[format]()
    if out is not None and format is not Format.KERAS:
        write_bytes(out, content)
    if as_json:
        typer.echo(
            json_documents.to_text(
                json_documents.of_export(
                    format.value, content.decode(errors="replace"), out, _code(made)
                )
            )
        )
    elif out is None:
        typer.echo(content, nl=False)
    elif not quiet:
        console().print(f"Written to {out}.", markup=False)
    if made is not None:
        _print_missing(made, quiet or as_json)
        raise typer.Exit(_code(made))


def patch(
    run_dir: options.Run,
    write: options.Write = False,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Write a fix into the script itself: the diff to standard output, or with --write
    into the files.

    Start it in the folder where `nanfix repair` was started. It prints what of the fix
    has no place in the script.
    """
    from nanfix.patch.patch import apply_patch

    made = patch_of_file(run_dir / "fix.json" if run_dir.is_dir() else run_dir)
    copies = apply_patch(made, Path()) if write else {}
    code = _code(made)
    if as_json:
        typer.echo(json_documents.to_text(json_documents.of_patch(made, copies, code)))
        raise typer.Exit(code)
    if not write:
        typer.echo(made.content, nl=False)
    elif not quiet:
        for file, copy in copies.items():
            typer.echo(f"{file} changed; the old file is kept as {copy}.")
    if not quiet:
        for file, copy in made.done.items():
            typer.echo(
                f"nanfix: {file} has this fix already; the old file is kept as {copy}.", err=True
            )
    _print_missing(made, quiet)
    raise typer.Exit(code)


def _print_missing(made: "Patch", quiet: bool) -> None:
    """Say what of a fix has no place in the script; always where nothing has one."""
    if not quiet:
        for left_over in made.left_over:
            typer.echo(f"nanfix: not in the patch: {left_over}.", err=True)
    code = _code(made)
    if code == ExitCode.PARTIAL and not quiet:
        words = "Only a part of the fix is in the script then: nanfix run --fix applies all of it."
        typer.echo(f"nanfix: {words}", err=True)
    elif code == ExitCode.USAGE_ERROR:
        typer.echo("nanfix: nothing of the fix has a place in the script.", err=True)


def _code(made: "Patch | None") -> int:
    """Return the exit code of a command that wrote a patch, or something else."""
    if made is None:
        return 0
    if not made.after and not made.done:
        return ExitCode.USAGE_ERROR
    return ExitCode.PARTIAL if made.is_partial else 0
