"""A fix written into the cells of a notebook."""

import json
from pathlib import Path

from notebooks import sources, write_notebook
from patched_scripts import optimizer

from nanfix.patch.patch import apply_patch, patch_of
from nanfix.records.source_changes import GuardChange, LayerChange
from nanfix.records.source_places import Made, Span
from nanfix.report.fix_file import FixFile, RunRecord
from nanfix.source.code_file import digest

PATH = "work/train.ipynb"
CELLS = (
    "%precision 3\nimport keras\nimport numpy as np\nimport tensorflow as tf",
    "\ndef loss(y, p):\n    return tf.reduce_mean(tf.math.log(p) * y)",
    "%%time\n!echo größer\nmodel = keras.Sequential([keras.Input((9,)), keras.layers.Dense(1)])",
    "model.compile(keras.optimizers.SGD(0.1), loss)\n%time model.fit(X, y)",
)


def made(cell, line, call):
    text = CELLS[cell - 1].splitlines()[line - 1]
    start = text.index(call)
    end = text.index(")", start) + 1 + (call == "keras.Input(")
    first, last = (len(text[:column].encode()) for column in (start, end))
    file = f"{PATH}, cell {cell}"
    place = Span(file=file, line=line, column=first, end_line=line, end_column=last)
    return Made(place=place, callee=call.rpartition(".")[2].strip("("))


def content_for(*changes):
    """Write the notebook, and return the content of a fix.json for it."""
    edits = [{"strategy": "lower-learning-rate", "learning_rate": 0.1}]
    source = [change.model_copy(update={"edits": [0]}) for change in changes]
    run = RunRecord.model_validate({"outcome": "REPAIRED", "edits": edits, "source": source})
    path = write_notebook(PATH, *CELLS)
    files = {path: digest(Path(path).read_bytes(), path) for path in source[0].paths}
    assert list(files) == [str(path)]
    return FixFile(files=files, runs=[run])


def patch(*changes):
    return patch_of(content_for(*changes), Path())


RATE = optimizer(made(4, 1, "keras.optimizers.SGD("), arguments={"learning_rate": "0.01"})
GUARD = GuardChange(file=f"{PATH}, cell 2", line=3, operation="Log", epsilon=1e-7)
LAYER = LayerChange(
    target=made(3, 3, "keras.Input("),
    side="after",
    layers=["keras.layers.Normalization(mean=MEAN, variance=VARIANCE)"],
    role="inputs",
    numbers={"MEAN": [0.5] * 9, "VARIANCE": [2.0] * 9},
)


def test_each_change_goes_into_the_cell_that_it_belongs_to():
    found = patch(RATE, GUARD, LAYER)
    assert found.left_over == ()
    first, second, third, fourth = sources(found.after[PATH])
    assert first.startswith(CELLS[0]) and "INPUT_MEAN = [0.5" in first
    assert second.startswith("\ndef loss(y, p):\n") and "tf.maximum(p, 1e-07)" in second
    assert third.startswith("%%time\n!echo größer\nmodel = keras.Sequential([keras.Input((9,)), ")
    assert "keras.layers.Normalization(mean=INPUT_MEAN, variance=INPUT_VARIANCE)" in third
    assert fourth == CELLS[3].replace("SGD(0.1)", "SGD(0.01)")


def test_the_diff_is_that_of_the_cells():
    assert str(patch(RATE)) == (
        f"--- a/{PATH}, cell 4\n+++ b/{PATH}, cell 4\n@@ -1,2 +1,2 @@\n"
        "-model.compile(keras.optimizers.SGD(0.1), loss)\n"
        "+model.compile(keras.optimizers.SGD(0.01), loss)\n %time model.fit(X, y)\n"
    )


def test_a_call_inside_a_magic_has_no_place():
    whole = made(4, 2, "%time model.fit(").place.model_copy(update={"column": 0, "end_column": 60})
    fit = Made(place=whole, callee="fit")
    (left_over,) = patch(optimizer(fit=fit, arguments={"clipnorm": "1.0"})).left_over
    assert left_over.reason


def test_written_it_keeps_its_outputs_and_a_copy_of_the_old_one():
    content = content_for(RATE)
    before = json.loads(Path(PATH).read_text())
    (copy,) = apply_patch(patch_of(content, Path()), Path()).values()
    assert json.loads(copy.read_text()) == before
    after = json.loads(Path(PATH).read_text())
    assert [c.get("outputs") for c in after["cells"]] == [c.get("outputs") for c in before["cells"]]
    del after["cells"][1]["outputs"][0]  # as it is run again, and saved
    Path(PATH).write_text(json.dumps(after))
    assert patch_of(content, Path()).done == {PATH: copy}
