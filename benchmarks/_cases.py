"""Cases: Python files with build() -> (model, x, y, fit_arguments) and CAUSE; each is
measured in a process of its own.
"""

import argparse
import importlib.util
import json
import subprocess
import sys
from pathlib import Path


def load(path):
    """Return the case as a module; what it imports may lie beside it."""
    sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location("case", path)
    case = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(case)
    return case


def files_named(description, measure):
    """Return the case files that the command line names; in the process of one case, measure it,
    print its row, and leave.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("cases", nargs="+", type=Path)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(measure(options.cases[0])))
        sys.exit()
    found = sorted(
        file for path in options.cases for file in (path.glob("*.py") if path.is_dir() else [path])
    )
    return [
        file for file in found if "CAUSE = " in file.read_text() and "def build" in file.read_text()
    ]


def measured(script, file):
    """Run `script --child file` and return the row that it prints, or a text that says
    how it failed.
    """
    done = subprocess.run(
        [sys.executable, script, "--child", str(file)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        return f"| {file.stem} | failed: {done.stderr.strip().splitlines()[-1][:80]} |"
    return json.loads(done.stdout.splitlines()[-1])
