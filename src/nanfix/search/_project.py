"""The folder that keras-tuner keeps a search in: whether it can be gone on with."""

import json
import os
import shutil
from pathlib import Path

from nanfix.records.atomic import write_text
from nanfix.search.oracle import COPY, ORACLE
from nanfix.search.space import Space

SPACE = "space.json"


def claim(project: Path, space: Space) -> None:
    """Start the search anew where its trials were of another space: the run that is gone on with
    failed otherwise this time.
    """
    marker, levels = (
        project / SPACE,
        {name: list(map(dict, levels)) for name, levels in space.levels.items()},
    )
    if project.exists() and (not marker.exists() or json.loads(marker.read_text()) != levels):
        shutil.rmtree(project)
    project.mkdir(parents=True, exist_ok=True)
    write_text(marker, json.dumps(levels))


def mend(project: Path) -> None:
    """Make what a killed process left readable again: keras-tuner writes its files in place.

    A torn oracle.json is replaced by the copy made after the save before it; where that does not
    do, the search starts anew.
    """
    oracle, copy = project / ORACLE, project / COPY
    if not all(_readable(path) for path in project.glob("trial_*/trial.json")) or not (
        _readable(oracle) or _readable(copy)
    ):
        shutil.rmtree(project, ignore_errors=True)
    elif not _readable(oracle):
        os.replace(copy, oracle)


def _readable(path: Path) -> bool:
    try:
        json.loads(path.read_text())
    except (OSError, ValueError):
        return False
    return True
