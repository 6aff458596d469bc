"""Python reads the content of a patch, and the files stay as they are."""

import subprocess
import sys
from pathlib import Path

from starting import write

START = """
import sys
from nanfix.scripts._patched_source import read_instead

read_instead({sources})
sys.path.insert(0, "")
import helper, inspect, linecache

print(helper.f(), inspect.getsource(helper.f).strip().splitlines()[1].strip())
linecache.clearcache()
linecache.updatecache(helper.__file__, vars(helper))  # as AutoGraph does
print(inspect.getsource(helper.f).strip().splitlines()[1].strip())
import other
print(other.f())
"""


def test_modules_and_their_lines_are_those_of_the_patch(folder):
    write("helper.py", "def f():\n    return 'old'\n")
    write("other.py", "def f():\n    return 'other'\n")
    subprocess.run([sys.executable, "-c", "import helper"], check=True)  # compiled, and kept so
    write("patched", "# -*- coding: utf-8 -*-\n\n\ndef f():\n    return 'new'\n")
    sources = {str(folder / "helper.py"): "patched"}
    command = [sys.executable, "-c", START.format(sources=sources)]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines() == ["new return 'new'", "return 'new'", "other"]
    assert Path("helper.py").read_text().endswith("'old'\n")
