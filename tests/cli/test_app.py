"""The command line as a whole: version, help, completion, and how fast it starts."""

import os
import subprocess
import sys
from importlib.metadata import version

import pytest


def test_the_version_tells_what_is_installed(nanfix):
    code, output, errors = nanfix("--version")
    names = ("nanfix", "keras", "tensorflow", "keras-tuner")
    assert (code, errors) == (0, "") and output == ", ".join(
        f"{name} {version(name)}" for name in names
    ) + "\n"


def test_help_pipes_as_plain_lines(nanfix):
    for words in (["--help"], ["repair", "--help"], ["export", "--help"]):
        code, output, _ = nanfix(*words)
        assert code == 0 and "Usage: nanfix" in output
        assert output.isascii()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_there_for_the_common_shells(shell):
    code = "from nanfix.cli.app import main; main()"
    environment = {**os.environ, "_NANFIX_COMPLETE": f"source_{shell}"}
    shown = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert "_NANFIX_COMPLETE=complete_" in shown.stdout
    words = {"_NANFIX_COMPLETE": f"complete_{shell}", "COMP_WORDS": "nanfix di", "COMP_CWORD": "1"}
    words |= {"_TYPER_COMPLETE_ARGS": "nanfix di", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    found = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **words},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "diagnose" in found.stdout


def test_the_command_line_starts_without_the_heavy_packages():
    heavy = "{'tensorflow', 'keras', 'keras_tuner', 'numpy', 'pydantic', 'sklearn'}"
    code = (
        f"import sys, nanfix.cli.app; found = {heavy} & set(sys.modules); sys.exit(repr(found) if "
        "found else 0)"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=False
        ).stderr
        == ""
    )
