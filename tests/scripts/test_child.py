"""Scripts run as they are: arguments, folder, output, exit code and traceback stay theirs."""

from pathlib import Path

import pytest
from starting import plainly, write

from nanfix.report.report import Outcome
from nanfix.scripts.parent import repair_script
from nanfix.scripts.script import Module

LOOK = """
import os, sys
from helper import seen
print(sys.argv, os.getcwd(), sys.path[0], __name__, __file__, __package__, __spec__)
print(sys.modules["__main__"].__dict__ is globals())
"""
FAILURES = {
    "own exit code": "import sys\nsys.exit(7)",
    "exit with a text": "import sys\nsys.exit('no data')",
    "exception": (
        "def f():\n    raise ValueError('mine')\n\ntry:\n    f()\nexcept ValueError as e:\n"
        "    raise KeyError(1) from e"
    ),
    "syntax error": "x = 1\ny = = 2\n",
    "own excepthook": "import sys\nsys.excepthook = lambda *a: print('hook', a[0].__name__)\n1 / 0",
    "at exit": (
        "import atexit\natexit.register(lambda: print(name))\nname = 'last words'\n"
        "raise SystemExit(3)"
    ),
}


def test_a_script_sees_what_it_would_see_without_nanfix(capfd):
    write("sub/helper.py", "seen = 1")
    path = write("sub/look.py", LOOK)
    write("json.py", "raise ImportError('a file in the working folder')")
    plain = plainly(path, "--seed", "1", "a b")
    result = repair_script(path, ["--seed", "1", "a b"])
    assert plain.returncode == 0
    assert capfd.readouterr() == (plain.stdout, plain.stderr)
    assert result.exit_code == 0


LOADS = """
import os, sys
os.write(2, b"before\\n")
import tensorflow
os.write(2, b"after\\n")
"""


def test_tensorflow_is_loaded_quietly_unless_its_log_is_asked_for(capfd, folder, monkeypatch):
    write("tensorflow/__init__.py", "import os\nos.write(2, b'I0000 oneDNN\\n')")
    path = write("loads.py", LOADS)
    monkeypatch.setenv("PYTHONPATH", str(folder))
    for asked, lines in ((None, ["before", "after"]), ("0", ["before", "I0000 oneDNN", "after"])):
        if asked is None:
            monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)
        else:
            monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", asked)
        assert repair_script(path, []).exit_code == 0
        assert capfd.readouterr().err.splitlines()[:3] == lines


@pytest.mark.parametrize("kind", FAILURES)
def test_a_script_that_fails_by_itself_keeps_code_output_and_traceback(kind, capfd, folder):
    path = write("fails.py", FAILURES[kind])
    plain = plainly(path)
    result = repair_script(path, out=folder / "fix.json")
    assert capfd.readouterr() == (plain.stdout, plain.stderr)
    assert result.code == result.exit_code == plain.returncode != 0
    assert result.calls == () and not Path("fix.json").exists()


MODULE = """
import sys
from .helper import seen
print(sys.argv, sys.path[0], __name__, __file__, __package__, __spec__.name, seen)
print(sys.modules["__main__"].__dict__ is globals())
"""


def test_a_module_sees_what_it_would_see_without_nanfix(capfd):
    write("pack/__init__.py", "import sys; print('package', sys.argv, sys.path[0])")
    write("pack/helper.py", "seen = 1")
    write("pack/look.py", MODULE)
    write("pack/__main__.py", MODULE)
    for name in ("pack.look", "pack"):
        plain = plainly(Module(name), "--seed", "1", "a b")
        result = repair_script(Module(name), ["--seed", "1", "a b"])
        assert plain.returncode == 0
        assert capfd.readouterr() == (plain.stdout, plain.stderr)
        assert result.exit_code == 0


@pytest.mark.parametrize("kind", FAILURES)
def test_a_module_that_fails_by_itself_keeps_code_output_and_traceback(kind, capfd):
    write("pack/__init__.py", "")
    write("pack/fails.py", FAILURES[kind])
    plain = plainly(Module("pack.fails"))
    result = repair_script(Module("pack.fails"))
    assert capfd.readouterr() == (plain.stdout, plain.stderr)
    assert result.code == result.exit_code == plain.returncode != 0


def test_the_legacy_keras_is_said():
    write("tf_keras.py", "")  # the package is not there, its name is what counts
    result = repair_script(write("old.py", "import tf_keras"))
    assert result.code == 2 and "legacy package tf_keras" in result.notes[0]


LOOP = """
import argparse, sys
import numpy as np
import tensorflow as tf

parser = argparse.ArgumentParser()
parser.add_argument("--way", required=True)
way = parser.parse_args().way
X = np.ones((8, 2), "float32")
model = tf.keras.Sequential([tf.keras.Input((2,)), tf.keras.layers.Dense(1)], name="loop")
model.compile("sgd", "mse")

def step():
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(tf.square(model(X) - 1.0))
    model.optimizer.apply(tape.gradient(loss, model.trainable_weights), model.trainable_weights)

if __name__ == "__main__":
    if way == "tape":
        for _ in range(3):
            step()
    elif way == "batch":
        for _ in range(3):
            model.train_on_batch(X, X[:, :1])
    else:
        history = model.fit(X, X[:, :1], verbose=0, callbacks=[tf.keras.callbacks.EarlyStopping("loss")])
        print(sorted(history.history), history.epoch, model.history is history)
    sys.exit(0)
"""  # noqa: E501


@pytest.mark.parametrize(
    ("way", "statement"), [("tape", "optimizer.apply"), ("batch", "train_on_batch")]
)
def test_a_loop_of_the_scripts_own_is_said_with_its_place(way, statement):
    result = repair_script(write("loop.py", LOOP), ["--way", way])
    loop, no_fit = result.notes
    assert (result.code, result.calls) == (2, ())
    place, _, words = loop.partition(" ")
    assert words.startswith("trains in a loop of its own") and "train_step" in words
    assert statement in LOOP.splitlines()[int(place.removeprefix("loop.py:")) - 1]
    assert "No call of model.fit was seen" in no_fit


def test_fit_by_tf_keras_with_callbacks_is_watched_and_no_loop(capfd):
    result = repair_script(write("loop.py", LOOP), ["--way", "fit"])
    assert (result.code, result.notes) == (0, ())
    assert [call.outcome for call in result.calls] == [Outcome.HEALTHY]
    assert capfd.readouterr().out == "['loss'] [0] True\n"
