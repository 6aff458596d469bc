"""The commands that take a fix out of its folder: `export` as a file, `patch` into the script."""

from pathlib import Path

import typer

from nanfix.cli import _options as options
from nanfix.cli import json_documents
from nanfix.cli._options import Format
from nanfix.cli._refusals import check_new
from nanfix.cli._words import console, patch_of_file
from nanfix.records.errors import ExitCode, InputError


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
    if format is Format.KERAS and out is not None:
        copy_model(path, out, call=number)
    else:
        contents = {
            Format.JSON: lambda: str(load(path)).encode(),
            Format.PYTHON: lambda: snippet(read_fix(path, call=number)).encode(),
            Format.PATCH: lambda: patch_of_file(path).content,  # in the encoding of the script
        }
        content = contents[format]()
        if out is not None:
            write_bytes(out, content)
    if as_json:
        typer.echo(
            json_documents.to_text(
                json_documents.of_export(format.value, content.decode(errors="replace"), out)
            )
        )
    elif out is None:
        typer.echo(content, nl=False)
    elif not quiet:
        console().print(f"Written to {out}.", markup=False)


def patch(
    run_dir: options.Run,
    write: options.Write = False,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Write a fix into the script itself: the diff to standard output, or with --write
    into the files.

    Start it in the folder where `nanfix repair` was started. What of the fix has no
    place in the script is told.
    """
    from nanfix.patch.patch import apply_patch

    made = patch_of_file(run_dir / "fix.json" if run_dir.is_dir() else run_dir)
    copies = apply_patch(made, Path()) if write else {}
    code = 0 if made.after or made.done else ExitCode.USAGE_ERROR
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
        for left_over in made.left_over:
            typer.echo(f"nanfix: not in the patch: {left_over}.", err=True)
    if code:
        typer.echo("nanfix: nothing of the fix has a place in the script.", err=True)
        raise typer.Exit(code)
