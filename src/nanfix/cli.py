"""The command line: `nanfix repair`, `diagnose`, `run`, `strategies`, `export`. The only module that prints."""

import contextlib
import logging
import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperCommand

from nanfix import documents, options
from nanfix.crew import Workers
from nanfix.errors import InputError, NanfixError
from nanfix.options import Format
from nanfix.usage import check_new, check_subject, names, program

if TYPE_CHECKING:
    from rich.console import Console

    from nanfix.script import CallResult, ScriptResult

USAGE_ERROR = 2
INTERRUPTED = 130
REPAIRED = Path("repaired.keras")
EPILOG = (
    "Exit codes: 0 healthy or repaired; 2 wrong usage, or no model.fit seen; 3 no fix can exist; 4 no fix held within "
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
                typer.echo(documents.to_text(documents.of_error(self.name or "", error, USAGE_ERROR)))
            raise


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
    budget = {"trials": budget_trials, "seconds": budget_seconds}
    search = {
        "budget": {name: value for name, value in budget.items() if value is not None},
        "strategies": None if strategies is None else names("--strategies", strategies),
        "forbid": [] if forbid is None else names("--forbid", forbid),
    }
    written = {"--out": out} if model is None else {"--out": out, "--save": save or REPAIRED}
    if not dry_run:
        check_new(written, force)
    if model is not None and data is not None:
        from nanfix.saved import SavedModel, plan_saved, repair_saved

        verbose = 0 if quiet else 2
        subject = SavedModel(model, data, target, epochs or 1, batch_size or 32, trust_model, seed or 0, verbose)
        plan, mend = partial(plan_saved, subject), partial(repair_saved, subject, model_out=written["--save"])
    else:
        from nanfix.script import plan_script, repair_script

        _announce(quiet)
        subject = program(script, module)
        plan, mend = partial(plan_script, subject, args or []), partial(repair_script, subject, args or [], seed=seed)
    with _standard_output_kept(as_json or model is not None):
        crew = Workers(workers, host, port)
        result = plan(**search) if dry_run else mend(**search, out=out, run_dir=run_dir, workers=crew)
    if dry_run:
        _tell_explained("repair", replace(result, notes=(*result.notes, DRY_RUN)), as_json, quiet)
    else:
        _tell("repair", result, as_json, quiet)
        if result.written and not quiet and not as_json:
            _tell_written(result, f"-m {script}" if module else str(script))
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
            from nanfix.saved import SavedModel, diagnose_saved

            verbose = 0 if quiet else 2
            result = diagnose_saved(SavedModel(model, data, target, epochs or 1, batch_size or 32, trust_model, verbose=verbose))
        else:
            from nanfix.script import diagnose_script

            result = diagnose_script(program(script, module), args or [])
    _tell_explained("diagnose", result, as_json, quiet)
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
    from nanfix.script import run_script_with_fix

    with _standard_output_kept(as_json):
        result = run_script_with_fix(program(script, module), args or [], fix)
    _tell("run", result, as_json, quiet)
    raise typer.Exit(result.code)


@app.command(cls=Command)
def strategies(as_json: options.AsJson = False, quiet: options.NamesOnly = False) -> None:
    """List the strategies, built-in and installed; tab-separated where the output is not a terminal."""
    from nanfix.registry import catalogue

    if as_json:
        typer.echo(documents.to_text(documents.of_strategies(catalogue())))
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
            (strategy.__doc__ or "").strip().partition("\n")[0],
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
    return ", ".join(sorted(cause.name.lower().replace("_", " ") for cause in causes))


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
    from nanfix.export import check_writable, copy_model, read_fix, snippet, write_text
    from nanfix.schema import load

    if format is Format.KERAS and out is None:
        raise InputError("A model is no text. Expected: --out FILE. Received: --format keras alone. Add --out model.keras.")
    path = run_dir / "fix.json" if run_dir.is_dir() else run_dir
    number = None if call is None else call - 1
    if out is not None:
        check_new({"--out": out}, force)
        check_writable(out)
    text = None
    if format is Format.KERAS and out is not None:
        copy_model(path, out, call=number)
    else:
        text = str(load(path)) if format is Format.JSON else snippet(read_fix(path, call=number))
        if out is not None:
            write_text(out, text)
    if as_json:
        typer.echo(documents.to_text(documents.of_export(format.value, text, out)))
    elif out is None:
        typer.echo(text, nl=False)
    elif not quiet:
        _console().print(f"Written to {out}.", markup=False)


def main() -> None:
    """Run the command line; an error that nanfix foresees is one line on standard error and exit code 2."""
    try:
        app(prog_name="nanfix")
    except NanfixError as error:
        typer.echo(f"nanfix: {error}", err=True)
        raise SystemExit(USAGE_ERROR) from None


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


def _announce(quiet: bool) -> None:
    """Let the remarks that the engine logs on its way appear on standard error."""
    log = logging.getLogger("nanfix")
    if not quiet and not log.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("nanfix: %(message)s"))
        log.addHandler(handler)
        log.setLevel(logging.INFO)


def _console() -> "Console":
    """Standard output belongs to the script, so nanfix speaks on standard error; plain where that is no terminal."""
    from rich.console import Console

    return Console(stderr=True, soft_wrap=True, highlight=False)


def _tell(command: str, result: "ScriptResult", as_json: bool, quiet: bool) -> None:
    """Say how a script or a training ended, as a document, in words, or not at all."""
    if as_json:
        typer.echo(documents.to_text(documents.of_result(command, result)))
    elif not quiet:
        _show(result, _console())


def _tell_explained(command: str, result: "ScriptResult", as_json: bool, quiet: bool) -> None:
    """Write explanations, which were asked for, to standard output, and remarks on standard error."""
    if not as_json:
        for call in result.calls:
            typer.echo(f"nanfix: fit call {call.call + 1}, model {call.model}")
            for line in call.text.splitlines():
                typer.echo(f"  {line}")
        result = replace(result, calls=())
    _tell(command, result, as_json, quiet)


def _tell_written(result: "ScriptResult", script: str) -> None:
    told = f"Fix written to {result.written}. Use it: nanfix run --fix {result.written} {script}"
    if result.model is not None:
        told = f"Repaired model written to {result.model}, the fix to {result.written}."
    _console().print(told, markup=False)


def _show(result: "ScriptResult", console: "Console") -> None:
    """Print, for each fit call, what was seen, what was changed and whether it is proved."""
    for call in result.calls:
        style = "green" if result.code == 0 else "bold"
        ending = call.outcome.name if call.outcome else "NOT WATCHED"
        console.print(f"nanfix: fit call {call.call + 1}, model {call.model}: {ending}", style=style, markup=False)
        for line in _details(call):
            console.print(f"  {line}", markup=False)
    for note in result.notes:
        console.print(f"nanfix: {note}", markup=False)
    if result.code == INTERRUPTED:
        console.print("nanfix: interrupted; nothing was written.", markup=False)
    elif result.exit_code:
        console.print(f"nanfix: the script ended with exit code {result.exit_code}.", markup=False)


def _details(call: "CallResult") -> list[str]:
    lines = call.text.removeprefix(f"{call.outcome.name}: ").splitlines() if call.outcome else call.text.splitlines()
    if call.outcome and call.record and call.record.edits and call.record.diagnosis is None:
        lines[0] = "Training stayed finite with the fix applied from the start."
    if call.proof is not None:
        last = ", ".join(f"{name} {value[:10]}" for name, value in call.history.items())
        lines.append(
            f"Proof: {call.proof} when all of it ran again with the fix and no search" + (f" ({last})." if last else ".")
        )
    return lines


if __name__ == "__main__":
    main()
