"""The JSON documents that the command line writes with --json; docs/command-line.md
names their keys.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nanfix.records.errors import NanfixError

if TYPE_CHECKING:
    from pydantic import BaseModel

    from nanfix.patch.patch import Patch
    from nanfix.remedies.strategy import Strategy
    from nanfix.scripts.results import CallResult, PatchRun, ScriptResult


def to_text(document: Mapping[str, Any]) -> str:
    return json.dumps(document, indent=2, allow_nan=False)


def of_error(command: str, error: NanfixError, code: int) -> dict[str, Any]:
    """Return the document of a command that was refused."""
    return {
        "command": command,
        "exit_code": code,
        "error": {"type": type(error).__name__, "message": str(error)},
    }


def of_result(command: str, result: "ScriptResult") -> dict[str, Any]:
    """Return the document of a command that ran a script or trained a saved model."""
    return {
        "command": command,
        "exit_code": result.code,
        "error": None,
        "script_exit_code": result.exit_code,
        "calls": [_of_call(call) for call in result.calls],
        "notes": list(result.notes),
        "fix": result.written and str(result.written),
        "model": result.model and str(result.model),
        "notebook": result.notebook and str(result.notebook),
        "patch": None if result.patch is None else _of_offered(result.patch, result.patch_run),
    }


def _of_offered(patch: "Patch", run: "PatchRun | None") -> dict[str, Any]:
    """Return what a patch holds and lacks, and what running the patched script came to."""
    return {
        "diff": str(patch),
        "left_over": [str(change) for change in patch.left_over],
        "run": run
        and {
            "verdict": run.verdict,
            "text": run.text,
            "figures": [
                {
                    "call": figure.call,
                    "name": figure.name,
                    "patched": as_number(figure.patched),
                    "repaired": as_number(figure.repaired),
                }
                for figure in run.figures
            ],
        },
    }


def of_strategies(catalogue: Mapping[str, "Strategy"]) -> dict[str, Any]:
    """Return the document of `nanfix strategies`."""
    return {
        "command": "strategies",
        "exit_code": 0,
        "error": None,
        "strategies": [
            {
                "name": name,
                "tier": int(strategy.tier),
                "treats": sorted(cause.name for cause in strategy.treats),
                "eases": sorted(cause.name for cause in strategy.eases),
                "parameters": list(strategy.parameters),
                "keeps_weights": strategy.keeps_weights,
                "discards_data": strategy.discards_data,
                "reference": strategy.reference,
            }
            for name, strategy in catalogue.items()
        ],
    }


def of_export(format: str, text: str, file: Path | None, exit_code: int = 0) -> dict[str, Any]:
    """Return the document of `nanfix export`; the content is there where it was not
    written to a file.
    """
    content = None if file is not None else json.loads(text) if format == "json" else text
    return {
        "command": "export",
        "exit_code": exit_code,
        "error": None,
        "format": format,
        "file": file and str(file),
        "content": content,
    }


def of_patch(patch: "Patch", copies: Mapping[Path, Path], exit_code: int) -> dict[str, Any]:
    """Return the document of `nanfix patch`; `copies` gives for each file that was written where
    the old one is kept.
    """
    return {
        "command": "patch",
        "exit_code": exit_code,
        "error": None,
        "diff": str(patch),
        "left_over": [str(change) for change in patch.left_over],
        "written": {str(file): str(copy) for file, copy in copies.items()},
        "done": {file: str(copy) for file, copy in patch.done.items()},
    }


def _of_call(call: "CallResult") -> dict[str, Any]:
    diagnosis = call.record.diagnosis if call.record else call.diagnosis
    return {
        "call": call.call,
        "model": call.model,
        "outcome": call.outcome and call.outcome.name,
        "proof": call.proof,
        "finite": call.finite,
        "history": {name: as_number(value) for name, value in call.history.items()},
        "text": call.text,
        "diagnosis": diagnosis and _document(diagnosis),
        "candidates": [list(map(dict, fix)) for fix in call.candidates],
        "run": call.record and _document(call.record),
    }


def _document(record: "BaseModel") -> dict[str, Any]:
    """Return a record as JSON has it. By way of its text: `model_dump(mode="json")` leaves NaN and
    inf, the text has null.
    """
    return json.loads(record.model_dump_json())


def as_number(text: str) -> float | None:
    """Return the number written as `text`; None for NaN and inf, for which JSON has no words, and
    for what is no number.
    """
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
