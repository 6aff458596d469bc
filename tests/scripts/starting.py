"""Scripts that are written, and run without nanfix."""

import subprocess
import sys
from pathlib import Path

from nanfix.scripts.script import Module


def write(name, text):
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def plainly(script, *args):
    command = ["-m", str(script)] if isinstance(script, Module) else [str(script)]
    return subprocess.run(
        [sys.executable, *command, *args], capture_output=True, text=True, check=False
    )
