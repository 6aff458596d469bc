"""The command `strategies`: a table of all that are installed."""

import sys
from collections.abc import Iterable

import typer

from nanfix.cli import _options as options
from nanfix.cli import json_documents
from nanfix.records.cause import Cause


def strategies(as_json: options.AsJson = False, quiet: options.NamesOnly = False) -> None:
    """List the strategies, built-in and installed; tab-separated where the output is
    not a terminal.
    """
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


def _named(causes: Iterable[Cause]) -> str:
    return ", ".join(sorted(cause.value.replace("-", " ") for cause in causes))
