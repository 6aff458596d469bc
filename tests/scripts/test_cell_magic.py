"""`%%nanfix` over a cell: its trainings are repaired and its reports shown; other cells are
Keras' own.
"""

import math
import subprocess
import sys

import keras
import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from traitlets.config import Config

from nanfix.report.report import Outcome

DATA = """
import keras, numpy as np
rng = np.random.default_rng(0)
X = rng.uniform(-1, 1, (256, 2)).astype("float32")
y = X[:, :1] - X[:, 1:]

def model(rate):
    keras.utils.set_random_seed(0)
    made = keras.Sequential([keras.layers.Dense(8, "relu"), keras.layers.Dense(1)])
    made.compile(keras.optimizers.SGD(rate), "mse")
    return made
"""
BAD = """%%nanfix strategies=["lower-learning-rate"], seed=int({0: 3}[0])
bad = model(50.0)
history = bad.fit(X, y, epochs=6, verbose=0)
history.history["loss"][-1]
"""


@pytest.fixture
def cell(monkeypatch, tmp_path):
    """Run a cell in a shell with the data; return what it came to and what it showed."""
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])
    config = Config({"HistoryManager": {"enabled": False}})
    shell = InteractiveShell.instance(config=config, ipython_dir=str(tmp_path), colors="nocolor")

    def run(text):
        with capture_output() as shown:
            result = shell.run_cell(text)
        return result, shown

    run("%load_ext nanfix")
    assert run(DATA)[0].success
    run.names = shell.user_ns
    yield run
    InteractiveShell.clear_instance()


def test_a_training_in_the_cell_is_repaired_and_its_report_shown(cell):
    original = keras.Model.fit
    result, shown = cell(BAD)
    assert result.success and keras.Model.fit is original
    assert math.isfinite(cell.names["history"].history["loss"][-1])
    (report,) = cell.names["nanfix_reports"]
    assert report.outcome is Outcome.REPAIRED and report.seed == 3
    (told,) = shown.outputs
    assert "nan" not in shown.stdout
    assert "nanfix: REPAIRED." in told.data["text/html"]
    assert told.data["text/plain"] == str(report)


def test_other_cells_are_keras_own(cell):
    cell("%%nanfix\nmodel(0.01).fit(X, y, verbose=0)")
    cell("bad = model(50.0)\nhistory = bad.fit(X, y, epochs=6, verbose=0)")
    assert not math.isfinite(cell.names["history"].history["loss"][-1])


def test_healthy_trainings_take_a_line(cell):
    _, shown = cell("%%nanfix\nfor _ in range(2):\n    model(0.01).fit(X, y, verbose=0)")
    assert shown.stdout == "nanfix: 2 trainings stayed finite; nothing was changed.\n"
    assert cell("%%nanfix\n1 + 1")[1].stdout.endswith(
        "no call of model.fit was seen in this cell.\n"
    )


def test_an_error_in_the_cell_is_shown_once_and_ends_it(cell):
    original = keras.Model.fit
    result, shown = cell("%%nanfix\nx = 1\n1 / 0")
    assert not result.success and keras.Model.fit is original
    assert shown.stdout.count("ZeroDivisionError: division by zero") == 1


def test_what_nanfix_refuses_is_told_and_left_to_keras(cell):
    text = "empty = keras.Sequential([keras.layers.Dense(1)])\nempty.fit(X, y, verbose=0)"
    result, shown = cell(f"%%nanfix\n{text}")
    assert not result.success
    assert "nanfix: " in shown.stdout and "You must call `compile()`" in shown.stdout


def test_arguments_that_are_refused_end_the_cell(cell):
    result, shown = cell("%%nanfix budget=3\nmodel(0.01).fit(X, y, verbose=0)")
    assert not result.success and "InputError" in shown.stdout


def test_loading_the_extension_loads_no_tensorflow():
    code = (
        "import sys, nanfix; nanfix.load_ipython_extension(Shell()); print('keras' in sys.modules)"
    )
    shell = "class Shell:\n    register_magic_function = print\n"
    ran = subprocess.run([sys.executable, "-c", shell + code], capture_output=True, text=True)
    assert ran.stdout.splitlines()[-1] == "False", ran.stderr
