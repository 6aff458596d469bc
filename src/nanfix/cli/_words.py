"""What the command line says, in words on standard error or as a document on standard output."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from nanfix.cli import json_documents
from nanfix.cli.json_documents import as_number
from nanfix.records.errors import ExitCode

if TYPE_CHECKING:
    from rich.console import Console

    from nanfix.patch.patch import Patch
    from nanfix.records.source_changes import SourceChange
    from nanfix.scripts.results import CallResult, PatchRun, ScriptResult

    Places = Mapping[int, list[SourceChange]]


def announce(quiet: bool) -> None:
    """Let the remarks that the engine logs on its way appear on standard error."""
    log = logging.getLogger("nanfix")
    if not quiet and not log.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("nanfix: %(message)s"))
        log.addHandler(handler)
        log.setLevel(logging.INFO)


def console() -> "Console":
    """Return where to speak: on standard error, since standard output belongs to the
    script; plain off a terminal.
    """
    from rich.console import Console

    return Console(stderr=True, soft_wrap=True, highlight=False)


def print_result(command: str, result: "ScriptResult", as_json: bool, quiet: bool) -> None:
    """Say how a script or a training ended, as a document, in words, or not at all."""
    if as_json:
        typer.echo(json_documents.to_text(json_documents.of_result(command, result)))
    elif not quiet:
        _show(result, console())


def print_explained(command: str, result: "ScriptResult", as_json: bool, quiet: bool) -> None:
    """Write explanations, which were asked for, to standard output, and remarks on
    standard error.
    """
    if not as_json:
        for call in result.calls:
            typer.echo(f"nanfix: fit call {call.call + 1}, model {call.model}")
            for line in call.text.splitlines():
                typer.echo(f"  {line}")
        result = replace(result, calls=())
    print_result(command, result, as_json, quiet)


def print_missing(result: "ScriptResult", fix: Path) -> None:
    """Say after a run with a known fix what of it has no place in the script."""
    made = result.patch
    if made is not None and made.is_partial:
        words = f"Only a part of this fix can stand in the script: use nanfix run --fix {fix}."
        console().print(words, markup=False)
        _print_left_over(made)


def print_written(result: "ScriptResult", script: str) -> None:
    words = f"Fix written to {result.written}. Use it: nanfix run --fix {result.written} {script}"
    if result.model is not None:
        words = f"Repaired model written to {result.model}, the fix to {result.written}."
    console().print(words, markup=False)
    if result.notebook is not None:
        console().print(f"Patched notebook written to {result.notebook}.", markup=False)
    if result.patch is not None and result.written is not None:
        _offer_patch(result.patch, result.patch_run, result.written)


def _show(result: "ScriptResult", screen: "Console") -> None:
    """Print, for each fit call, what was seen, what was changed and whether it is proved; calls in
    a row of which the same is to be said are shown as one.
    """
    places = _places(result)
    for _, found in groupby(result.calls, lambda call: _alike(call, places)):
        calls = list(found)
        ending, details = _ending_and_details(calls[0], places)
        first, last = calls[0].call + 1, calls[-1].call + 1
        which = f"fit call {first}" if first == last else f"fit calls {first} to {last}"
        style = "green" if result.code == 0 else "bold"
        screen.print(f"nanfix: {which}, {ending}", style=style, markup=False)
        for line in details:
            screen.print(f"  {line}", markup=False)
    for note in result.notes:
        screen.print(f"nanfix: {note}", markup=False)
    if result.code == ExitCode.INTERRUPTED:
        screen.print("nanfix: interrupted; nothing was written.", markup=False)
    elif result.exit_code:
        screen.print(f"nanfix: the script ended with exit code {result.exit_code}.", markup=False)


def _alike(call: "CallResult", places: "Places") -> tuple[str, list[str]]:
    """Return what is the same of calls that are shown as one: all of it, or that they have
    diverged, each by other figures.
    """
    ending, details = _ending_and_details(call, places)
    return ending, [] if call.outcome is not None and call.outcome.name == "DIVERGED" else details


def _ending_and_details(call: "CallResult", places: "Places") -> tuple[str, list[str]]:
    """Return what is said of a call: how it ended, and the lines below."""
    ending = call.outcome.name if call.outcome else "NOT WATCHED"
    return f"model {call.model}: {ending}", _details(call, places)


def _details(call: "CallResult", places: "Places") -> list[str]:
    text = call.summary or call.text
    lines = (
        text.removeprefix(f"{call.outcome.name}: ").splitlines()
        if call.outcome
        else text.splitlines()
    )
    if call.outcome and call.record and call.record.edits and call.record.diagnosis is None:
        lines[0] = "Training stayed finite with the fix applied from the start."
    lines += [
        f"Place in the source: {change.where}, {change}." for change in places.get(call.call, ())
    ]
    if call.proof is not None:
        # Those that trained with the fix of another call are shown as one.
        carried = call.record is not None and call.record.carried is not None
        last = ", ".join(
            f"{name} {number:.4g}"
            for name, text in ({} if carried else call.history).items()
            if (number := as_number(text)) is not None
        )
        lines.append(
            f"Proof: it {call.proof} when all of it runs again with the fix and no search"
            + (f" ({last})." if last else ".")
        )
    return lines


def _offer_patch(made: "Patch", run: "PatchRun | None", fix: Path) -> None:
    """Say what the patched script came to, how to write the fix into the script, and what of it
    has no place there.
    """
    if run is not None:
        console().print(f"nanfix: {run.text}", markup=False)
    if made.after:
        words = _how_to_write(made, run, f"nanfix patch {fix} --write")
        console().print(words, markup=False)
    _print_left_over(made)


def _how_to_write(made: "Patch", run: "PatchRun | None", write: str) -> str:
    """Say by which command a fix is written into the script, and whether that is enough."""
    part = "Only a part of this fix can stand in the script"
    if made.is_partial and run is not None and run.verdict == "works":
        return f"{part}, which is enough here: {write}"
    if made.is_partial:
        return f"{part} ({write}): use nanfix run --fix."
    if run is not None and run.is_bad:
        return f"The patch alone does not do what the fix does ({write}): use nanfix run --fix."
    return f"Or change the script itself: {write}"


def _print_left_over(made: "Patch") -> None:
    for left_over in made.left_over:
        console().print(f"nanfix: not in the patch: {left_over}.", markup=False)


def _places(result: "ScriptResult") -> "Places":
    """Return by fit call the changes of the source that a patch would make."""
    made = result.patch
    found: dict[int, list[SourceChange]] = {}
    for each in () if made is None else made.placed:
        found.setdefault(each.call, []).append(each.change)
    return found


def patch_of_file(path: Path) -> "Patch":
    """Return the patch of a fix.json, for the files as they are in the working folder."""
    from nanfix.patch.patch import patch_of
    from nanfix.report.fix_file import load

    return patch_of(load(path), Path())
