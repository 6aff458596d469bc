"""The command line: `nanfix repair`, `diagnose`, `run`, `strategies`, `export`. The only module that prints."""

import logging
import sys
from collections.abc import Iterable
from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nanfix.errors import InputError, NanfixError

if TYPE_CHECKING:
    from rich.console import Console

    from nanfix.patch import Patch
    from nanfix.script import CallResult, ScriptResult

USAGE_ERROR = 2
INTERRUPTED = 130
EPILOG = (
    "Exit codes: 0 healthy or repaired; 2 wrong usage, or no model.fit seen; 3 no fix can exist; 4 no fix held within "
    "the budget; 130 interrupted; any other code is the script's own."
)
SCRIPT_OPTIONS = {"allow_interspersed_args": False}  # what stands after the script belongs to the script

app = typer.Typer(
    help="Keras training that does not die of NaN: watch it, explain it, repair it, prove the repair.",
    epilog=EPILOG,
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
)

Script = Annotated[Path, typer.Argument(help="The training script, run as it is.", show_default=False)]
Args = Annotated[list[str] | None, typer.Argument(help="Everything after the script is the script's own.", show_default=False)]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors; the script's own output stays.")]


class Format(Enum):
    """What `nanfix export` writes."""

    JSON = "json"
    PYTHON = "python"
    PATCH = "patch"


@app.command(context_settings=SCRIPT_OPTIONS, epilog=EPILOG)
def repair(
    script: Script,
    args: Args = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="The fix.json to write once the fix is proved.")] = Path("fix.json"),
    force: Annotated[bool, typer.Option("--force", help="Replace an existing --out file.")] = False,
    budget_trials: Annotated[
        int | None, typer.Option(min=1, help="Try at most this many fixes for each fit call.", show_default="30")
    ] = None,
    budget_seconds: Annotated[
        float | None, typer.Option(min=0.001, help="Search at most this long for each fit call.", show_default="no limit")
    ] = None,
    strategies: Annotated[
        str | None, typer.Option(help="Names, separated by commas; see `nanfix strategies`.", show_default="all")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the search; the script's own seeds stay untouched.")] = None,
    run_dir: Annotated[Path | None, typer.Option(help="Keep the search here; an interrupted repair goes on from it.")] = None,
    quiet: Quiet = False,
) -> None:
    """Run SCRIPT, repair what goes NaN, and prove the fix by running SCRIPT again with it."""
    names = None if strategies is None else [name.strip() for name in strategies.split(",") if name.strip()]
    if names == []:
        raise InputError(
            f"--strategies names no strategy. Expected: names separated by commas. Received: {strategies!r}. "
            "Leave the option out to allow all."
        )
    if out.exists() and not force:
        raise InputError(
            f"{str(out)!r} exists already. Expected: a new file. Received: --out {out}. "
            "Choose another with --out, or replace it with --force."
        )
    budget = {"trials": budget_trials, "seconds": budget_seconds}
    from nanfix.script import repair_script

    _announce(quiet)
    result = repair_script(
        script,
        args or [],
        out=out,
        budget={name: value for name, value in budget.items() if value is not None},
        strategies=names,
        seed=seed,
        run_dir=run_dir,
    )
    if not quiet:
        _show(result, _console())
        if result.written:
            _console().print(f"Fix written to {result.written}. Use it: nanfix run --fix {result.written} {script}", markup=False)
            _offer_patch(result.written)
    raise typer.Exit(result.code)


@app.command(context_settings=SCRIPT_OPTIONS, epilog=EPILOG)
def diagnose(script: Script, args: Args = None) -> None:
    """Run SCRIPT until a training goes non-finite, and explain why; nothing is changed."""
    from nanfix.script import diagnose_script

    result = diagnose_script(script, args or [])
    for call in result.calls:
        typer.echo(f"nanfix: fit call {call.call + 1}, model {call.model}")
        for line in call.text.splitlines():
            typer.echo(f"  {line}")
    _show(replace(result, calls=()), _console())
    raise typer.Exit(result.code)


@app.command(context_settings=SCRIPT_OPTIONS, epilog=EPILOG)
def run(
    script: Script,
    fix: Annotated[Path, typer.Option(help="The fix.json of an earlier repair.", show_default=False)],
    args: Args = None,
    quiet: Quiet = False,
) -> None:
    """Run SCRIPT with a known fix, without any search."""
    from nanfix.script import run_script_with_fix

    result = run_script_with_fix(script, args or [], fix)
    if not quiet:
        _show(result, _console())
    raise typer.Exit(result.code)


@app.command()
def strategies() -> None:
    """List the strategies, built-in and installed; tab-separated where the output is not a terminal."""
    from nanfix.registry import catalogue

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


@app.command()
def export(
    run_dir: Annotated[Path, typer.Argument(help="A folder with a fix.json in it, or the fix.json.", show_default=False)],
    format: Annotated[Format, typer.Option(help="The record as JSON, the fix as Python, or as a patch.")] = Format.JSON,
    call: Annotated[int | None, typer.Option(min=1, help="Which fit call's fix, where the script made several.")] = None,
) -> None:
    """Write a fix to standard output."""
    from nanfix.export import read_fix, snippet
    from nanfix.schema import load

    path = run_dir / "fix.json" if run_dir.is_dir() else run_dir
    if format is Format.JSON:
        typer.echo(str(load(path)), nl=False)
    elif format is Format.PATCH:
        typer.echo(_patch_of(path).content, nl=False)
    else:
        typer.echo(snippet(read_fix(path, call=None if call is None else call - 1)), nl=False)


@app.command()
def patch(
    run_dir: Annotated[Path, typer.Argument(help="A folder with a fix.json in it, or the fix.json.", show_default=False)],
    write: Annotated[bool, typer.Option("--write", help="Change the files, each beside a copy of the old one.")] = False,
) -> None:
    """Write a fix into the script itself: the diff to standard output, or with --write into the files.

    Start it in the folder where `nanfix repair` was started. What of the fix has no place in the script is told.
    """
    from nanfix.patch import apply_patch

    made = _patch_of(run_dir / "fix.json" if run_dir.is_dir() else run_dir)
    if write:
        for file, copy in apply_patch(made, Path()).items():
            typer.echo(f"{file} changed; the old file is kept as {copy}.")
    else:
        typer.echo(made.content, nl=False)
    for left_over in made.left_over:
        typer.echo(f"nanfix: no place in the script for {left_over}.", err=True)
    if not made.after:
        typer.echo("nanfix: nothing of the fix has a place in the script.", err=True)
        raise typer.Exit(USAGE_ERROR)


def _offer_patch(fix: Path) -> None:
    """Say how to write the fix into the script, and what of it has no place there."""
    from nanfix.errors import PatchError

    try:
        made = _patch_of(fix)
    except PatchError as error:  # the script has changed itself; the fix is good all the same
        _console().print(f"nanfix: {error}", markup=False)
        return
    if made.after:
        _console().print(f"Or change the script itself: nanfix patch {fix} --write", markup=False)
    for left_over in made.left_over:
        _console().print(f"nanfix: no place in the script for {left_over}.", markup=False)


def _patch_of(path: Path) -> "Patch":
    from nanfix.patch import patch_of
    from nanfix.schema import load

    return patch_of(load(path), Path())


def main() -> None:
    """Run the command line; an error that nanfix foresees is one line on standard error and exit code 2."""
    try:
        app(prog_name="nanfix")
    except NanfixError as error:
        typer.echo(f"nanfix: {error}", err=True)
        raise SystemExit(USAGE_ERROR) from None


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
    if call.record is not None:
        lines += [f"Place in the source: {change.where}, {change}." for change in call.record.source if change.where]
    if call.proof is not None:
        last = ", ".join(f"{name} {value[:10]}" for name, value in call.history.items())
        lines.append(
            f"Proof: {call.proof} when the whole script ran again with the fix and no search" + (f" ({last})." if last else ".")
        )
    return lines


if __name__ == "__main__":
    main()
