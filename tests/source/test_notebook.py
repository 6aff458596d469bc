"""A notebook as one Python text, and what is changed in it written back."""

import json
import sys
from pathlib import Path

import pytest
from notebooks import sources, write_notebook

from nanfix.records.errors import ScriptError
from nanfix.source.code_file import digest, notebook

CELLS = (
    "%precision 3\n!pip install a \\\n    b\nimport keras\nfiles = !ls",
    "\n%%time\nmodel = 1\n%time x = 2\nmodel?",
    "%%bash\nls",
    "x = = 3",
    ">>> y = await f()\n>>> z = 5",
)


@pytest.fixture
def written(tmp_path):
    def write(*cells, **metadata):
        path = write_notebook(tmp_path / "train.ipynb", *cells, **metadata)
        return notebook(path.read_bytes(), str(path)), path

    return write


def test_each_line_of_python_stands_where_it_stands_in_its_cell(written):
    book, _ = written(*CELLS)
    lines = book.text.splitlines()
    for cell, line, text in [
        (1, 4, "import keras"),
        (1, 5, "files = get_ipython().getoutput('ls')"),
        (2, 3, "model = 1"),
        (2, 4, "get_ipython().run_line_magic('time', 'x = 2')"),
        (5, 2, "z = 5"),
    ]:
        assert lines[book.line(cell, line) - 1] == text
    compile(book.text.replace("await ", ""), "train", "exec")


def test_what_is_changed_goes_into_its_cell_and_magics_stay(written):
    book, path = written(*CELLS)
    changed = book.text.replace("model = 1\n", "model = 7\nmore = 8\n").replace("z = 5", "z = 6")
    after = book.with_text(changed)
    assert sources(after) == [
        CELLS[0],
        "\n%%time\nmodel = 7\nmore = 8\n%time x = 2\nmodel?",
        *CELLS[2:4],
        "y = await f()\nz = 6",
    ]
    before, made = (json.loads(content) for content in (path.read_bytes(), after))
    for cell in (*before["cells"], *made["cells"]):
        del cell["source"]
    assert made == before  # outputs, identities, metadata


def test_without_a_change_the_file_stays_byte_for_byte(written):
    book, path = written(*CELLS)
    assert book.with_text(book.text) == path.read_bytes()


def test_only_its_lines_differ_where_jupyter_has_written_the_file(written):
    book, path = written("a = 1", "b = 2")
    after = book.with_text(book.text.replace("b = 2", "b = 3"))
    pairs = zip(path.read_text().splitlines(), after.decode().splitlines(), strict=True)
    assert [(old.strip(), new.strip()) for old, new in pairs if old != new] == [
        ('"b = 2"', '"b = 3"')
    ]


def test_running_and_saving_a_notebook_leaves_its_digest(written):
    _, path = written("a = 1")
    data = json.loads(path.read_text())
    before = digest(path.read_bytes(), str(path))
    data["cells"][1]["outputs"], data["cells"][1]["execution_count"] = [], 7
    assert digest(json.dumps(data).encode(), str(path)) == before
    data["cells"][1]["source"] = "a = 2"
    assert digest(json.dumps(data).encode(), str(path)) != before


@pytest.mark.parametrize(
    ("content", "received"),
    [
        (b"", "no notebook (Notebook does not appear to be JSON"),
        (b"\xff", "no notebook ('utf-8' codec"),
        (b"[]", "no notebook ("),
        (b'{"nbformat": 4}', "no notebook ("),
        (b'{"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": 3}', "no notebook ("),
        (b'{"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": []}', "one without code"),
    ],
)
def test_what_is_no_notebook_is_refused(content, received):
    with pytest.raises(ScriptError) as refusal:
        notebook(content, "train.ipynb")
    assert str(refusal.value).startswith("Cannot run 'train.ipynb'. Expected: a Jupyter notebook")
    assert f"Received: {received}" in str(refusal.value)


def test_another_language_is_refused(written):
    with pytest.raises(ScriptError, match="Received: one in R"):
        written("x <- 1", kernelspec={"name": "ir", "display_name": "R", "language": "R"})


def test_empty_cells_are_not_counted(written):
    book, _ = written("a = 1", " \n", "b = 2")
    assert [(cell.number, cell.source) for cell in book.cells] == [(1, "a = 1"), (2, "b = 2")]


def test_without_the_packages_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "nanfix.source.notebook", None)
    with pytest.raises(ScriptError, match=r"Install them: pip install 'nanfix\[notebook\]'"):
        notebook(Path(__file__).read_bytes(), "train.ipynb")
