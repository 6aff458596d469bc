"""Whose a line of code is."""

import linecache
import os
import subprocess
import sys
import types
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from nanfix.model import operations, user_code


def test_libraries_are_not_the_users_own_wherever_they_are_installed(monkeypatch):
    # As if installed by `pip install --target`, outside site-packages.
    monkeypatch.setattr(user_code, "_LIBRARIES", ())
    assert not any(user_code.is_users(module.__file__) for module in (keras, keras.layers, np, tf))
    assert user_code.is_users(__file__)


@pytest.mark.parametrize(
    ("other", "alike"),
    [
        ("zb = zb / tf.norm(zb, axis=1)  # the other view", True),
        ("b = a / tf.norm(a, axis=1)", False),
        ("zb = zb / tf.abs(zb, axis=1)", False),
        ("zb = zb / tf.norm(zb, axis=0)", False),
        ("return za / tf.norm(za, axis=1)", False),
        ("za = za / tf.norm(", False),
    ],
)
def test_lines_that_compute_the_same_of_other_variables_are_alike(other, alike):
    assert user_code.alike("za = za / tf.norm(za, axis=1)", other) is alike
    assert not user_code.alike("za = za / n", "zb = zb / n")  # says too little


@pytest.mark.parametrize("folder", ["_OWN", "_STDLIB"])
def test_folder_whose_name_only_begins_like_another_is_the_users_own(folder):
    assert user_code.is_users(
        f"{getattr(user_code, folder).rstrip(os.sep)}_experiments{os.sep}train.py"
    )
    assert not user_code.is_users(f"{getattr(user_code, folder)}train.py")


def test_every_room_is_nanfix_own_also_where_the_package_is_reached_by_a_link(tmp_path):
    (tmp_path / "link").symlink_to(user_code.PACKAGE.parent)
    code = (
        "from nanfix.model.user_code import is_own, is_users; from nanfix.scripts import parent;"
        "files = is_own.__code__.co_filename, parent.__file__;"
        "assert all('link' in file and is_own(file) and not is_users(file) for file in files), "
        "files"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "link")}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)


def test_files_whose_frames_stand_inside_the_users_call_are_there():
    assert operations._WITHIN and all(
        Path(name).is_file() and user_code.is_own(name) for name in operations._WITHIN
    )


def loaded(tmp_path, folder, text):
    """Return the module that a file of this text is, its functions called by `losses`
    in the folder.
    """
    path = tmp_path / folder / "losses.py"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    linecache.checkcache(str(path))
    module = types.ModuleType(f"{folder}.losses")
    exec(compile(text, str(path), "exec"), vars(module))
    return module


ROOT = "import sys\n\ndef root(look):\n    y = 1\n    return look(sys._getframe())\n"


@pytest.mark.parametrize(
    ("folder", "text", "found"),
    [
        ("a", ROOT, True),
        ("a", "\n# A line more.\n" + ROOT, True),
        ("a", ROOT.replace("y = 1\n", "y = 1\n    z = 2 * y\n"), True),
        # No line reads so any more: anywhere in the function.
        ("a", ROOT.replace("look(sys", "look (sys"), True),
        (
            "a",
            ROOT.replace(
                "y = 1", "y = look( sys._getframe())\n    if y is not None:\n        return y"
            ),
            False,
        ),  # the line is there, but further down
        ("b", ROOT, False),
        ("a", ROOT.replace("def root", "def square") + "root = square\n", False),
    ],
)
def test_line_is_found_again_by_its_function_and_its_text(tmp_path, folder, text, found):
    written = loaded(tmp_path, "a", ROOT).root(user_code.line).code
    assert written == "a.losses.root: return look(sys._getframe())"
    assert (
        loaded(tmp_path, folder, text).root(lambda frame: user_code.line(frame).is_that_of(written))
        is found
    )
