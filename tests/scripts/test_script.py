"""What can be run, and what is refused."""

from pathlib import Path

import pytest
from starting import write

from nanfix.records.errors import ScriptError
from nanfix.scripts.parent import repair_script
from nanfix.scripts.script import Module


def test_missing_modules_are_refused():
    write("pack/__init__.py", "")
    write("pack/train.py", "")
    for name in ("absent", "absent.train", "pack.absent", "pack.train.absent"):
        with pytest.raises(
            ScriptError, match=rf"There is no module '{name}'\. Expected: .* Received: "
        ):
            repair_script(Module(name), out=Path("fix.json"))
    assert not Path("fix.json").exists()


def test_missing_scripts_are_refused():
    for path in (Path("absent.py"), Path()):
        with pytest.raises(ScriptError, match="Expected: a Python training script"):
            repair_script(path)
