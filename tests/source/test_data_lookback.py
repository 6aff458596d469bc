"""The line that made data non-finite, named without a second run where the variables prove it."""

import sys
import textwrap

import numpy as np
import pytest

from nanfix.records.data_origin import Argument
from nanfix.source.data_lookback import look_back

HEAD = """
import numpy as np
table = np.arange(12.0).reshape(4, 3)
"""


@pytest.fixture
def looked(tmp_path):
    """Return what runs a script and returns what was found at its call of `fit`."""

    def run(text):
        path, found = tmp_path / "script.py", []

        def fit(model, x, y=None):
            caller = sys._getframe(1)
            found.append(look_back(caller, "fit", Argument("inputs", "x", 1)))

        path.write_text(HEAD + textwrap.dedent(text))
        with np.errstate(all="ignore"):
            exec(compile(path.read_text(), str(path), "exec"), {"fit": fit})
        return found[0]

    return run


# A script, and the line that is named, with the variables that were finite; None where it cannot be
# told.
LINES = {
    "one step": ("X = table / table[0, 0]\nfit(0, X)", ("X = table / table[0, 0]", ("table",))),
    "further up": (
        "logs = np.log(-table)\nX = logs * 2\nfit(0, X[:3])",
        ("logs = np.log(-table)", ("table",)),
    ),
    "in the caller": (
        "X = table / 0\ndef train(x):\n    fit(0, x=x)\ntrain(X)",
        ("X = table / 0", ("table",)),
    ),
    "finite": ("X = table\nfit(0, X)", None),
    "written twice": ("X = table\nX = X / X[0, 0]\nfit(0, X)", None),
    "in a loop": ("for i in range(2):\n    X = table / i / 0\nfit(0, X)", None),
    "of what has changed": ("X = np.log(table - 1)\ntable = table + 9\nfit(0, X)", None),
    "another argument": (
        "X, Z = table, table / 0\ndef train(x, z):\n    fit(0, z)\ntrain(X, Z)",
        ("X, Z = table, table / 0", ("table",)),
    ),
    "written by a function": (
        "def spoil(a):\n    a[0] = np.nan\nX = table * 1.0\nspoil(X)\nfit(0, X)", None,
    ),
    "written by a method": (
        "class A:\n    def spoil(self, a):\n        a[0] = np.nan\n"
        "X, a = table * 1.0, A()\na.spoil(X)\nfit(0, X)", None,
    ),
    "made by a function": (
        "def scaled(a):\n    return a / a[0, 0]\nX = scaled(table)\nprint(X)\nfit(0, X)",
        ("X = scaled(table)", ("table",)),
    ),
    "written under another name": ("X = table * 1.0\nrow = X[0]\nrow[0] = np.nan\nfit(0, X)", None),
    "written row by row": ("X = table * 1.0\nfor row in X:\n    row[0] = np.nan\nfit(0, X)", None),
    "read row by row": (
        "X = table / 0\nfor row in X:\n    print(row)\nfit(0, X)", ("X = table / 0", ("table",)),
    ),
    "written by numpy": ("X = table * 1.0\nnp.putmask(X, X > 3, np.nan)\nfit(0, X)", None),
    "written as an output": ("X = table * 1.0\nnp.log(-X, out=X)\nfit(0, X)", None),
}  # fmt: skip


@pytest.mark.parametrize("name", LINES)
def test_the_line_is_named_where_the_variables_prove_it(looked, name):
    script, expected = LINES[name]
    origin = looked(script)
    assert (None if origin is None else (origin.at.text, origin.finite)) == expected


def test_a_file_that_was_edited_is_read_anew(looked):
    looked("X = table / table[0, 0]\nfit(0, X)")
    assert looked("Z = 1\nX = np.log(-table)\nfit(0, X)").at.text == "X = np.log(-table)"


def test_what_a_function_gives_of_nothing_is_told_as_given(looked):
    origin = looked("""
        def load():
            return np.array([[1.0, np.nan]])
        X = load()
        fit(0, X)
    """)
    assert origin.given and origin.name == "X" and str(origin.holes) == "1 NaN in column 1"
