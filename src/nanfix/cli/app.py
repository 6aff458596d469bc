"""The command line: `nanfix repair`, `diagnose`, `run`, `patch`, `export`, `strategies`."""

import contextlib
import os
import shlex
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand

from nanfix.cli import _options as options
from nanfix.cli import json_documents
from nanfix.cli._options import Format
from nanfix.cli._refusals import check_new, check_subject, names, program
from nanfix.cli._words import announce, console, patch_of_file, tell, tell_explained, tell_written
from nanfix.model.quiet import load_tensorflow
from nanfix.records.errors import ExitCode, InputError, NanfixError
from nanfix.search.workers.pool import Workers

REPAIRED = Path("repaired.keras")
EPILOG = (
    "Exit codes: 0 healthy or repaired; 2 wrong usage, or no model.fit seen; 3 no fix can exist; 4 no fix worked within "
    "the budget; 130 interrupted; any other code is the script's own."
)
SCRIPT_OPTIONS = {"allow_interspersed_args": False}  # what stands after the script belongs to the script
DRY_RUN = "Dry run: nothing was repaired or written."

app = typer.Typer(
    help="Keras training that does not die of NaN: watch it, explain it, repair it, prove the repair.",
    epilog=EPILOG,
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich" if sys.stdout.isatty() else None,  # plain lines where they are piped
)


class Command(TyperCommand):
    """A command that, with --json, answers with a document also when it is refused."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except NanfixError as error:
            if ctx.params["as_json"]:
                typer.echo(json_documents.to_text(json_documents.of_error(self.name or "", error, ExitCode.USAGE_ERROR)))
            raise


@app.callback()
def nanfix(version: options.Version = False) -> None:
    """Take what stands in front of the command."""


@app.command(context_settings=SCRIPT_OPTIONS, epilog=EPILOG, cls=Command)
def repair(
    script: options.ScriptOrNone = None,
    args: options.Args = None,
    module: options.AsModule = False,
    model: options.Model = None,
    data: options.Data = None,
    target: options.Target = None,
    epochs: options.Epochs = None,
    batch_size: options.BatchSize = None,
    trust_model: options.TrustModel = False,
    save: options.Save = None,
    budget_trials: options.Trials = None,
    budget_seconds: options.Seconds = None,
    strategies: options.Strategies = None,
    forbid: options.Forbid = None,
    seed: options.Seed = None,
    run_dir: options.RunDir = None,
    workers: options.WorkerCount = 1,
    host: options.Host = "127.0.0.1",
    port: options.Port = 0,
    dry_run: options.DryRun = False,
    no_prove: options.NoProve = False,
    out: options.Out = Path("fix.json"),
    force: options.Force = False,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Run SCRIPT, repair what goes NaN, and prove the fix by running SCRIPT again with it.

    With --model and --data a saved model is trained and repaired instead, and the fix proved on a fresh copy of it.
    """
    saved = {"--data": data, "--target": target, "--epochs": epochs, "--batch-size": batch_size, "--save": save}
    check_subject(script, module, model, {**saved, "--trust-model": trust_model or None})
    if model is not None and no_prove:
        raise InputError(
            "A saved model is always proved, on a fresh copy of it. Expected: --no-prove with a script. Received: --no-prove and "
            "--model. Leave it out."
        )
    budget = {"trials": budget_trials, "seconds": budget_seconds}
    search = {
        "budget": {name: value for name, value in budget.items() if value is not None},
        "strategies": None if strategies is None else names("--strategies", strategies),
        "forbid": [] if forbid is None else names("--forbid", forbid),
    }
    written = {"--out": out} if model is None else {"--out": out, "--save": save or REPAIRED}
    runs = program(script, module) if model is None else None
    if not dry_run:
        check_new(written, force)
    if runs is None:
        assert model is not None and data is not None  # as check_subject saw to
        load_tensorflow()
        from nanfix.cli._saved_models import SavedModel, plan_saved, repair_saved

        verbose = 0 if quiet else 2
        subject = SavedModel(model, data, target, epochs or 1, batch_size or 32, trust_model, seed or 0, verbose)
        plan, mend = partial(plan_saved, subject), partial(repair_saved, subject, model_out=written["--save"])
    else:
        from nanfix.scripts.parent import plan_script, repair_script

        announce(quiet)
        proof = {"seed": seed, "prove": not no_prove}
        plan, mend = partial(plan_script, runs, args or []), partial(repair_script, runs, args or [], **proof)
    with _standard_output_kept(as_json or model is not None):
        pool = Workers(workers, host, port)
        result = plan(**search) if dry_run else mend(**search, out=out, run_dir=run_dir, workers=pool)
    if dry_run:
        tell_explained("repair", replace(result, notes=(*result.notes, DRY_RUN)), as_json, quiet)
    else:
        tell("repair", result, as_json, quiet)
        if result.written and not quiet and not as_json:
            tell_written(result, shlex.join([*(["-m"] if module else []), str(script), *(args or [])]))
    raise typer.Exit(result.code)


@app.command(context_settings=SCRIPT_OPTIONS, epilog=EPILOG, cls=Command)
def diagnose(
    script: options.ScriptOrNone = None,
    args: options.Args = None,
    module: options.AsModule = False,
    model: options.Model = None,
    data: options.Data = None,
    target: options.Target = None,
    epochs: options.Epochs = None,
    batch_size: options.BatchSize = None,
    trust_model: options.TrustModel = False,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Run SCRIPT, or train a saved model, until it goes non-finite, and explain why; nothing is changed."""
    saved = {"--data": data, "--target": target, "--epochs": epochs, "--batch-size": batch_size}
    check_subject(script, module, model, {**saved, "--trust-model": trust_model or None})
    with _standard_output_kept(as_json or model is not None):
        if model is not None and data is not None:
            load_tensorflow()
            from nanfix.cli._saved_models import SavedModel, diagnose_saved

            verbose = 0 if quiet else 2
            result = diagnose_saved(SavedModel(model, data, target, epochs or 1, batch_size or 32, trust_model, verbose=verbose))
        else:
            from nanfix.scripts.parent import diagnose_script

            result = diagnose_script(program(script, module), args or [])
    tell_explained("diagnose", result, as_json, quiet)
    raise typer.Exit(result.code)


@app.command(context_settings=SCRIPT_OPTIONS, epilog=EPILOG, cls=Command)
def run(
    script: options.Script,
    fix: options.FixFile,
    args: options.Args = None,
    module: options.AsModule = False,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Run SCRIPT with a known fix, without any search."""
    from nanfix.scripts.parent import run_script_with_fix

    with _standard_output_kept(as_json):
        result = run_script_with_fix(program(script, module), args or [], fix)
    tell("run", result, as_json, quiet)
    raise typer.Exit(result.code)


@app.command(cls=Command)
def strategies(as_json: options.AsJson = False, quiet: options.NamesOnly = False) -> None:
    """List the strategies, built-in and installed; tab-separated where the output is not a terminal."""
    from nanfix.remedies.registry import catalogue

    if as_json:
        typer.echo(json_documents.to_text(json_documents.of_strategies(catalogue())))
        return
    if quiet:
        typer.echo("\n".join(catalogue()))
        return
    titles = ("name", "tier", "treats", "may ease", "parameters", "what it does", "reference")
    rows = [
        (
            strategy.name,
            f"{int(strategy.tier)} {strategy.tier.name.lower()}",
            _named(strategy.treats),
            _named(strategy.eases),
            ", ".join(strategy.parameters),
            strategy.summary,
            strategy.reference,
        )
        for strategy in catalogue().values()
    ]
    if not sys.stdout.isatty():
        for row in (titles, *rows):
            typer.echo("\t".join(row))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*titles)
    for row in rows:
        table.add_row(*map(Text, row))
    Console().print(table)


def _named(causes: Iterable[Any]) -> str:
    return ", ".join(sorted(cause.value.replace("-", " ") for cause in causes))


@app.command(cls=Command)
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
        raise InputError("A model is no text. Expected: --out FILE. Received: --format keras alone. Add --out model.keras.")
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
        typer.echo(json_documents.to_text(json_documents.of_export(format.value, content.decode(errors="replace"), out)))
    elif out is None:
        typer.echo(content, nl=False)
    elif not quiet:
        console().print(f"Written to {out}.", markup=False)


@app.command(cls=Command)
def patch(
    run_dir: options.Run,
    write: options.Write = False,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Write a fix into the script itself: the diff to standard output, or with --write into the files.

    Start it in the folder where `nanfix repair` was started. What of the fix has no place in the script is told.
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
            typer.echo(f"nanfix: {file} has this fix already; the old file is kept as {copy}.", err=True)
        for left_over in made.left_over:
            typer.echo(f"nanfix: not in the patch: {left_over}.", err=True)
    if code:
        typer.echo("nanfix: nothing of the fix has a place in the script.", err=True)
        raise typer.Exit(code)


def main() -> None:
    """Run the command line; an error that nanfix foresees is one line on standard error and exit code 2."""
    try:
        app(prog_name="nanfix")
    except NanfixError as error:
        typer.echo(f"nanfix: {error}", err=True)
        raise SystemExit(ExitCode.USAGE_ERROR) from None


@contextlib.contextmanager
def _standard_output_kept(apart: bool) -> Iterator[None]:
    """Send what a script or a training prints to standard error where standard output is for something else."""
    if not apart:
        yield
        return
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)  # for child processes
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


if __name__ == "__main__":
    main()
