"""Files that a patch changes: several, in their encoding, unchanged since, and no others."""

import os
import shutil
import subprocess
import textwrap
from pathlib import Path

import pytest
from patched_scripts import PATH, SEQUENTIAL, Script, optimizer

from nanfix.patch.patch import apply_patch, digest, patch_of
from nanfix.records.errors import PatchError
from nanfix.records.rows_change import RowsChange
from nanfix.records.source_changes import NoPlace
from nanfix.report.fix_file import FixFile, RunRecord


def test_a_fix_may_change_several_files():
    maker = Script(
        "import keras\n\ndef adam(rate):\n    return keras.optimizers.Adam(rate, epsilon=0.0)\n",
        "lib/making.py",
    )
    script = Script(
        "from lib.making import adam\nmodel.compile(adam(3.0), 'mse')\nmodel.fit(X, y)\n"
    )
    change = optimizer(
        maker.made("Adam"),
        fit=script.made("fit"),
        arguments={"learning_rate": "0.1", "epsilon": "1e-07"},
    )
    files = {path: digest(Path(path).read_bytes()) for path in change.paths}
    edits = [{"strategy": "lower-learning-rate", "learning_rate": 0.1}]
    run = RunRecord.model_validate({"outcome": "REPAIRED", "edits": edits, "source": [change]})
    patch = patch_of(FixFile(files=files, runs=[run]), Path())
    assert patch.after["lib/making.py"].endswith(b"Adam(rate, epsilon=1e-07)\n")
    assert patch.after["train.py"].endswith(
        b"model.optimizer.learning_rate = 0.1\nmodel.fit(X, y)\n"
    )
    assert str(patch).count("+++ b/") == 2


# Files.


def changed(text=SEQUENTIAL, path=PATH):
    script = Script(text, path)
    return script, script.patch(optimizer(script.made("SGD"), arguments={"learning_rate": "0.001"}))


@pytest.mark.parametrize(
    ("text", "path"),
    [
        (SEQUENTIAL, PATH),
        (SEQUENTIAL.rstrip(), "deep/er/no_newline_at_the_end.py"),
        (textwrap.dedent(SEQUENTIAL).replace("\n", "\r\n"), "windows.py"),
        (f"# größer\f\n{textwrap.dedent(SEQUENTIAL)}", "bytes.py"),
    ],
)
def test_the_diff_is_one_that_git_applies(folder, text, path):
    script, patch = changed(text, path)
    Path("fix.patch").write_bytes(patch.content)
    subprocess.run(["git", "apply", "fix.patch"], check=True, cwd=folder)
    assert (
        Path(path).read_bytes()
        == patch.after[path]
        == script.text.replace("SGD(0.1)", "SGD(0.001)").encode()
    )


def test_a_file_keeps_its_encoding():
    script = Script("# coding: latin-1\nimport keras  # gr\xf6\xdfe\nkeras.optimizers.SGD(0.1)\n")
    Path(PATH).write_bytes(script.text.encode("latin-1"))
    patch = script.patch(optimizer(script.made("SGD"), arguments={"learning_rate": "0.001"}))
    assert patch.after[PATH] == script.text.replace("0.1", "0.001").encode("latin-1")
    assert "größe".encode("latin-1") in patch.content and "SGD(0.001)" in str(patch)


def test_writing_keeps_a_copy_and_the_permissions():
    script, patch = changed()
    os.chmod(PATH, 0o750)
    Path("train.py.orig").write_text("an older one")
    assert apply_patch(patch, Path()) == {Path(PATH): Path("train.py.orig2")}
    assert (
        Path("train.py.orig2").read_text() == script.text
        and Path("train.py.orig").read_text() == "an older one"
    )
    assert "SGD(0.001)" in Path(PATH).read_text() and Path(PATH).stat().st_mode & 0o777 == 0o750


def test_a_file_that_has_changed_or_gone_is_refused():
    script = Script(SEQUENTIAL)
    content = FixFile(files={PATH: digest(b"another")}, runs=[])
    with pytest.raises(PatchError, match="has changed since"):
        patch_of(content, Path())
    shutil.move(PATH, "elsewhere.py")
    with pytest.raises(PatchError, match="Run it in the folder"):
        patch_of(content, Path())
    assert Path("elsewhere.py").read_text() == script.text


def test_a_patched_file_needs_no_patch_and_a_patched_and_changed_one_is_refused():
    script = Script(SEQUENTIAL)
    run = RunRecord.model_validate(
        {
            "outcome": "REPAIRED",
            "source": [optimizer(script.made("SGD"), arguments={"learning_rate": "0.001"})],
        }
    )
    fix = FixFile(files={PATH: digest(Path(PATH).read_bytes())}, runs=[run])
    apply_patch(patch_of(fix, Path()), Path())
    patch = patch_of(fix, Path())
    assert (patch.content, patch.after, patch.done) == (b"", {}, {PATH: Path("train.py.orig")})
    Path(PATH).write_text(Path(PATH).read_text() + "print('more')\n")
    with pytest.raises(PatchError, match="has changed since"):
        patch_of(fix, Path())


@pytest.mark.parametrize("linked", [False, True])
def test_files_outside_the_folder_are_left_alone(folder, linked):
    """Those of a library of the user's own, by their absolute path, or seen through a
    link in the folder.
    """
    project = folder / "project"
    project.mkdir()
    os.chdir(project)
    text, outside = (
        "import keras\n\ndef adam():\n    return keras.optimizers.Adam(3.0)\n",
        str(folder / "making.py"),
    )
    if linked:
        Path("making.py").symlink_to(outside)
        Path(outside).write_text(text)
    maker, script = (
        Script(text, "making.py" if linked else outside),
        Script("import keras\nkeras.optimizers.SGD(3.0)\n"),
    )
    changes = [
        optimizer(s.made(n), name=n, arguments={"learning_rate": "0.1"})
        for s, n in ((maker, "Adam"), (script, "SGD"))
    ]
    edits = [{"strategy": "lower-learning-rate", "learning_rate": 0.1}]
    source = [change.model_copy(update={"edits": [0]}) for change in changes]
    run = RunRecord.model_validate({"outcome": "REPAIRED", "edits": edits, "source": source})
    patch = patch_of(
        FixFile(
            files={path: digest(Path(path).read_bytes()) for path in (maker.path, PATH)}, runs=[run]
        ),
        Path(),
    )
    assert list(patch.after) == [PATH]
    assert (
        "lies outside this folder" in patch.left_over[0].reason
        and f"{maker.path}:4" in patch.left_over[0].reason
    )
    apply_patch(patch, Path())
    assert Path(outside).read_text() == text and "SGD(0.1)" in Path(PATH).read_text()


def test_changes_survive_json():
    script = Script(SEQUENTIAL)
    changes = [
        optimizer(script.made("SGD"), arguments={"learning_rate": "0.1", "clipnorm": None}),
        RowsChange(fit=script.made("fit"), labels=(0.0, 255.0)),
        NoPlace(edits=[0], reason="none"),
    ]
    run = RunRecord.model_validate({"outcome": "REPAIRED", "source": changes})
    assert RunRecord.model_validate_json(run.model_dump_json()).source == changes
