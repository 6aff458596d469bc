"""Notebooks run as Jupyter would run them, and end as they would there."""

from pathlib import Path

import pytest
from notebooks import write_notebook

from nanfix.records.errors import ScriptError
from nanfix.scripts.parent import repair_script

LOOKS = (
    "import os, sys\nfrom helper import seen\nprint(os.getcwd() == sys.path[0], __name__, seen)",
    "%%time\nimport inspect\ndef f():\n    return 1",
    "%%capture shown\nprint(inspect.getsource(f).splitlines()[1].strip())",
    "import asyncio\nawait asyncio.sleep(0)\nshown.stdout",
    "!echo from the shell",
    "globals() is sys.modules['__main__'].__dict__",
)
ENDS = {
    "error": (["def f(x):\n    return 1 / x", "\nf(0)"], 1, ["Cell In[2], line 2", "----> 2 f(0)"]),
    "below %%time": (["%%time\nx = 1\n1 / 0"], 1, ["Cell In[1], line 3", "ZeroDivisionError"]),
    "syntax": (["x = 1", "y = = 2"], 1, ["Cell In[2], line 1", "SyntaxError: invalid syntax"]),
    "unknown magic": (["%nosuch 3"], 1, ["UsageError: Line magic function `%nosuch` not found."]),
    "own exit code": (["import sys\nsys.exit(7)"], 7, []),
}


def test_a_notebook_sees_what_it_would_see_in_jupyter(capfd, folder):
    (folder / "sub").mkdir()
    Path("sub/helper.py").write_text("seen = 'a helper beside it'")
    path = write_notebook("sub/look.ipynb", *LOOKS)
    before = path.read_bytes()
    result = repair_script(path)
    output, errors = capfd.readouterr()
    assert (result.exit_code, errors, path.read_bytes()) == (0, "", before)
    lines = [line for line in output.splitlines() if "time:" not in line and "times:" not in line]
    assert lines == [
        "True __main__ a helper beside it",
        "Out[4]: 'return 1\\n'",
        "from the shell",
        "Out[6]: True",
    ]


@pytest.mark.parametrize("kind", ENDS)
def test_a_cell_that_fails_is_shown_as_a_notebook_shows_it_and_ends_it(kind, capfd):
    cells, code, shown = ENDS[kind]
    result = repair_script(write_notebook("fails.ipynb", *cells, "print('never')"))
    output, errors = capfd.readouterr()
    assert (result.exit_code, "never" in output) == (code, False)
    assert all(part in errors for part in shown)
    assert "nanfix" not in errors and "IPython" not in errors


def test_what_is_no_notebook_is_refused_before_anything_runs():
    Path("broken.ipynb").write_text("print('a script')")
    with pytest.raises(ScriptError, match="Received: no notebook"):
        repair_script(Path("broken.ipynb"))
