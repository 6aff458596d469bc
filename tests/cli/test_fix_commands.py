"""`export` and `patch`."""

import json
from pathlib import Path


def test_export_writes_json_and_python_to_standard_output(nanfix, fix_file):
    fix_file([{"strategy": "halve"}])
    code, output, _ = nanfix("export", ".")
    assert code == 0 and output == Path("fix.json").read_text()
    code, output, _ = nanfix("export", "fix.json", "--format", "python")
    assert code == 0 and "# Halve it." in output
    compile(output, "snippet.py", "exec")
    assert nanfix("export", ".", "--format", "python", "--call", "2")[0] == 2


def test_export_writes_files_and_documents(nanfix, fix_file):
    fix_file([{"strategy": "halve"}])
    Path("model.keras").write_text("a model")
    for format, name in (("json", "a.json"), ("python", "a.py"), ("keras", "a.keras")):
        assert nanfix("export", ".", "--format", format, "-o", name) == (
            0,
            "",
            f"Written to {name}.\n",
        )
        assert nanfix("export", ".", "--format", format, "-o", name)[0] == 2
        assert nanfix("export", ".", "--format", format, "-o", name, "--force", "--quiet") == (
            0,
            "",
            "",
        )
    assert Path("a.json").read_text() == Path("fix.json").read_text()
    assert Path("a.keras").read_text() == "a model"
    compile(Path("a.py").read_text(), "a.py", "exec")
    document = json.loads(nanfix("export", ".", "--json")[1])
    assert (document["format"], document["file"], document["content"]["runs"][0]["outcome"]) == (
        "json",
        None,
        "REPAIRED",
    )
    document = json.loads(nanfix("export", ".", "--json", "--format", "python")[1])
    assert "# Halve it." in document["content"]
    document = json.loads(
        nanfix("export", ".", "--json", "--format", "keras", "-o", "a.keras", "--force")[1]
    )
    assert (document["file"], document["content"]) == ("a.keras", None)


def test_patch_shows_the_diff_and_writes_only_when_it_is_told_to(nanfix, folder, patchable):
    code, diff, errors = nanfix("patch", "fix.json")
    assert code == 6 and diff.startswith("--- a/train.py\n+++ b/train.py\n")
    assert (
        "-model.compile(keras.optimizers.SGD(0.5), 'mse')\n"
        "+model.compile(keras.optimizers.SGD(0.1), 'mse')\n"
    ) in diff
    assert errors == (
        "nanfix: not in the patch: fit call 1, halve: it is Keras' own.\n"
        "nanfix: Only a part of the fix is in the script then: nanfix run --fix applies all of "
        "it.\n"
    )
    assert Path("train.py").read_text() == patchable
    assert nanfix("export", ".", "--format", "patch") == (6, diff, errors)
    assert json.loads(nanfix("export", ".", "--format", "patch", "--json")[1])["exit_code"] == 6
    code, output, _ = nanfix("patch", ".", "--write")
    assert (code, output) == (6, "train.py changed; the old file is kept as train.py.orig.\n")
    assert (
        Path("train.py.orig").read_text() == patchable
        and "SGD(0.1)" in Path("train.py").read_text()
    )
    for words in (["--write"], []):
        code, output, errors = nanfix("patch", ".", *words)
        assert (code, output) == (6, "")
        assert (
            "nanfix: train.py has this fix already; the old file is kept as train.py.orig.\n"
            in errors
        )
    assert json.loads(nanfix("patch", ".", "--json")[1])["done"] == {"train.py": "train.py.orig"}
    Path("train.py").write_text(patchable + "# mine\n")
    code, output, errors = nanfix("patch", ".", "--write")
    assert code == 2 and output == "" and "has changed since the fix was found" in errors
    assert sorted(path.name for path in folder.iterdir()) == [
        "fix.json",
        "train.py",
        "train.py.orig",
    ]


def test_a_patch_that_holds_all_of_the_fix_ends_with_0(nanfix, patchable):
    content = json.loads(Path("fix.json").read_text())
    content["runs"][0]["source"].pop()
    Path("fix.json").write_text(json.dumps(content))
    for words in (["patch", "."], ["export", ".", "--format", "patch"]):
        code, output, errors = nanfix(*words)
        assert code == 0 and "+model.compile" in output and errors == ""


def test_a_fix_without_places_is_no_patch(nanfix, folder, fix_file):
    fix_file([{"strategy": "halve"}])
    code, output, errors = nanfix("patch", "fix.json", "--write")
    assert (code, output) == (2, "") and "nothing of the fix has a place" in errors
    assert sorted(path.name for path in folder.iterdir()) == ["fix.json", "train.py"]
