"""The options of the command line: what each is called and what its help says."""

import math
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

LARGEST_SEED = 2**32 - 1  # that NumPy takes
SAVED, SEARCH, OUTPUT = (
    "A saved model instead of a script",
    "The search",
    "What is written and said",
)


class Format(Enum):
    """What `nanfix export` writes."""

    JSON = "json"
    PYTHON = "python"
    PATCH = "patch"
    KERAS = "keras"


def _option(*names: str, panel: str | None = None, **settings):
    return typer.Option(*names, rich_help_panel=panel, **settings)


def _show_version(asked: bool) -> None:
    if asked:
        from nanfix.report.fix_file import installed

        names = ("nanfix", "keras", "tensorflow", "keras-tuner")
        typer.echo(", ".join(f"{name} {installed(name)}" for name in names))
        raise typer.Exit


def _finite(number: float | None) -> float | None:
    if number is not None and not math.isfinite(number):
        raise typer.BadParameter(
            f"Expected: a finite number of seconds. Received: {number}. Leave the option out for "
            "no limit."
        )
    return number


Version = Annotated[
    bool,
    typer.Option(
        "--version", callback=_show_version, is_eager=True, help="Show what is installed, and stop."
    ),
]

Script = Annotated[
    Path, typer.Argument(help="The training script, run as it is.", show_default=False)
]
ScriptOrNone = Annotated[
    Path | None,
    typer.Argument(
        help="The training script, run as it is; or a module with -m.", show_default=False
    ),
]
Args = Annotated[
    list[str] | None,
    typer.Argument(help="Everything after the script is the script's own.", show_default=False),
]
AsModule = Annotated[
    bool, _option("-m", "--module", help="SCRIPT is the name of a module, as `python -m` takes it.")
]

Model = Annotated[
    Path | None,
    _option("--model", panel=SAVED, help="A compiled model, saved by Keras.", show_default=False),
]
Data = Annotated[
    Path | None,
    _option(
        "--data",
        panel=SAVED,
        help="A .npz with X and y, if need be X_val and y_val, and sample_weight; or a .csv.",
        show_default=False,
    ),
]
Target = Annotated[
    str | None,
    _option("--target", panel=SAVED, help="The column of the .csv to predict.", show_default=False),
]
Epochs = Annotated[
    int | None, _option("--epochs", panel=SAVED, min=1, help="Epochs to train.", show_default="1")
]
BatchSize = Annotated[
    int | None,
    _option("--batch-size", panel=SAVED, min=1, help="Rows in a batch.", show_default="32"),
]
TrustModel = Annotated[
    bool,
    _option(
        "--trust-model",
        panel=SAVED,
        help="Run Python code in the model file (Lambda layers); Keras' safe_mode off.",
    ),
]
Save = Annotated[
    Path | None,
    _option(
        "--save",
        panel=SAVED,
        help="The .keras file to write the repaired model to; of a notebook, the patched one.",
        show_default="repaired.keras, or NAME.patched.ipynb",
    ),
]

Trials = Annotated[
    int | None,
    _option(
        "--budget-trials",
        panel=SEARCH,
        min=1,
        help="Try at most this many fixes for each fit call.",
        show_default="30",
    ),
]
Seconds = Annotated[
    float | None,
    _option(
        "--budget-seconds",
        panel=SEARCH,
        min=0.001,
        callback=_finite,
        help="Search at most so long for each fit call.",
        show_default="no limit",
    ),
]
Strategies = Annotated[
    str | None,
    _option(
        "--strategies",
        panel=SEARCH,
        help="Try only these; names with commas. See `nanfix strategies`.",
        show_default="all",
    ),
]
Forbid = Annotated[
    str | None,
    _option(
        "--forbid", panel=SEARCH, help="Never try these; names with commas.", show_default="none"
    ),
]
Seed = Annotated[
    int | None,
    _option(
        "--seed",
        panel=SEARCH,
        min=0,
        max=LARGEST_SEED,
        help="Seed of the search; a script's own seeds stay untouched.",
        show_default="0",
    ),
]
RunDir = Annotated[
    Path | None,
    _option(
        "--run-dir",
        panel=SEARCH,
        help="Keep search, fix and repaired models here; an interrupted repair goes on from it.",
        show_default=False,
    ),
]
WorkerCount = Annotated[
    int,
    _option(
        "--workers",
        panel=SEARCH,
        min=1,
        help="Processes that try fixes at the same time, for a model that can be saved.",
    ),
]
Host = Annotated[
    str,
    _option(
        "--host",
        panel=SEARCH,
        help="Where the workers meet; without authentication: trust its network.",
    ),
]
Port = Annotated[
    int,
    _option(
        "--port",
        panel=SEARCH,
        min=0,
        max=65535,
        help="The port for it.",
        show_default="any free one",
    ),
]
RepairDivergence = Annotated[
    bool,
    _option(
        "--repair-divergence",
        panel=SEARCH,
        help="Also repair what stays finite, but whose loss rises by orders of magnitude.",
    ),
]
DryRun = Annotated[
    bool,
    _option(
        "--dry-run",
        panel=SEARCH,
        help="Train until it fails, say why and what would be tried; change and write nothing.",
    ),
]
NoProve = Annotated[
    bool,
    _option(
        "--no-prove",
        panel=SEARCH,
        help="Do not run the script again to prove the fix; it is written unproved.",
    ),
]
NoCheckPatch = Annotated[
    bool,
    _option(
        "--no-check-patch",
        panel=SEARCH,
        help="Do not run the patched script, to see that the patch alone suffices.",
    ),
]
NoTrace = Annotated[
    bool,
    _option(
        "--no-trace",
        panel=SEARCH,
        help="Do not run the script again to find the line that made its data non-finite.",
    ),
]

Out = Annotated[
    Path, _option("--out", "-o", panel=OUTPUT, help="The fix.json to write once the fix is proved.")
]
Force = Annotated[bool, _option("--force", panel=OUTPUT, help="Replace files that exist.")]
AsJson = Annotated[
    bool,
    _option(
        "--json",
        panel=OUTPUT,
        help="Write one JSON document to standard output, and nothing else there.",
    ),
]
Quiet = Annotated[
    bool,
    _option(
        "--quiet", "-q", panel=OUTPUT, help="Say nothing but errors; the script's own output stays."
    ),
]
NamesOnly = Annotated[bool, typer.Option("--quiet", "-q", help="The names alone.")]
FixFile = Annotated[
    Path, typer.Option("--fix", help="The fix.json of an earlier repair.", show_default=False)
]

Run = Annotated[
    Path,
    typer.Argument(help="A folder with a fix.json in it, or the fix.json.", show_default=False),
]
ExportFormat = Annotated[
    Format,
    typer.Option(
        "--format",
        help="The record as JSON, Python that applies the fix, a diff of the script, or the model.",
    ),
]
Write = Annotated[
    bool, typer.Option("--write", help="Change the files, each beside a copy of the old one.")
]
Call = Annotated[
    int | None,
    typer.Option("--call", min=1, help="Which fit call's fix, where the script made several."),
]
ToFile = Annotated[
    Path | None,
    typer.Option(
        "--out", "-o", help="The file to write; a must for keras.", show_default="standard output"
    ),
]
