"""The command line: `nanfix repair`, `diagnose`, `run`, `patch`, `export`, `strategies`."""

import sys
from typing import Any

import typer
from typer.core import TyperCommand

from nanfix.cli import _options as options
from nanfix.cli import json_documents
from nanfix.cli._fix_commands import export, patch
from nanfix.cli._strategies_command import strategies
from nanfix.cli._training_commands import diagnose, repair, run
from nanfix.records.errors import ExitCode, NanfixError

EPILOG = (
    "Exit codes: 0 healthy or repaired; 2 wrong usage, or no model.fit seen; 3 no fix can exist; 4 "
    "no fix worked within the budget; 5 finite with the fix, but no repair; 6 the fix works, but "
    "the patched script does not; 130 interrupted; any other code is the script's own."
)
EPILOG_OF_PATCH = (
    "Exit codes: 0 all of the fix is in the patch; 2 nothing of it, or wrong usage; 6 a part of it."
)
# What stands after the script belongs to the script.
SCRIPT_OPTIONS = {"allow_interspersed_args": False}
app = typer.Typer(
    help=(
        "Keras training that does not die of NaN: watch it, explain it, repair it, prove the "
        "repair."
    ),
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
                typer.echo(
                    json_documents.to_text(
                        json_documents.of_error(self.name or "", error, ExitCode.USAGE_ERROR)
                    )
                )
            raise


@app.callback()
def nanfix(version: options.Version = False) -> None:
    """Take what stands in front of the command."""


for command in (repair, diagnose, run):
    app.command(context_settings=SCRIPT_OPTIONS, epilog=EPILOG, cls=Command)(command)
for command in (export, patch):
    app.command(epilog=EPILOG_OF_PATCH, cls=Command)(command)
app.command(cls=Command)(strategies)


def main() -> None:
    """Run the command line; an error that nanfix foresees is one line on standard error
    and exit code 2.
    """
    try:
        app(prog_name="nanfix")
    except NanfixError as error:
        typer.echo(f"nanfix: {error}", err=True)
        raise SystemExit(ExitCode.USAGE_ERROR) from None


if __name__ == "__main__":
    main()
