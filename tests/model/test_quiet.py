"""What nanfix computes for itself makes no noise; what is the user's own is heard as ever."""

import logging
import subprocess
import sys
import threading
import warnings

import pytest

from nanfix.model.quiet import heard, quiet

LOUD = logging.getLogger("tensorflow")


def talk():
    warnings.warn("of Keras", UserWarning, stacklevel=2)
    LOUD.warning("5 out of the last 5 calls triggered tf.function retracing")
    logging.getLogger("absl").error("of absl")


def test_warnings_and_log_lines_are_kept_in(caplog, recwarn):
    before = list(warnings.filters)
    with quiet(), quiet():
        talk()
    assert not caplog.records and not recwarn.list
    assert list(warnings.filters) == before
    assert not LOUD.filters


def test_a_warning_that_is_an_error_is_none_inside():
    with quiet():
        warnings.warn("of Keras", UserWarning, stacklevel=1)
    with pytest.raises(UserWarning, match="mine"):
        warnings.warn("mine", UserWarning, stacklevel=1)


def test_what_is_the_users_inside_is_heard(caplog):
    @quiet()
    def repair():
        talk()
        with heard():
            LOUD.warning("of the user")
        talk()

    repair()
    assert [record.message for record in caplog.records] == ["of the user"]


def test_other_threads_are_heard(caplog):
    with quiet():
        thread = threading.Thread(target=LOUD.warning, args=("of another thread",))
        thread.start()
        thread.join()
        talk()
    assert [record.message for record in caplog.records] == ["of another thread"]


def test_a_fault_inside_ends_the_silence(caplog):
    with pytest.raises(ZeroDivisionError), quiet():
        1 / 0  # noqa: B018
    LOUD.warning("heard")
    assert [record.message for record in caplog.records] == ["heard"]


WARN = """
import warnings
from nanfix.model.quiet import quiet
def fit(): warnings.warn("shuffle=True was passed")
fit()
with quiet():
    fit()
fit()
"""


def test_what_was_shown_once_is_not_shown_again():
    shown = subprocess.run([sys.executable, "-c", WARN], capture_output=True, text=True, check=True)
    assert shown.stderr.count("UserWarning: shuffle=True was passed") == 1


LOAD = """
import os, sys
from nanfix.model.quiet import load_tensorflow
load_tensorflow()
print("errors are heard", file=sys.stderr)
sys.modules.pop("tensorflow"); sys.path.insert(0, sys.argv[1])
load_tensorflow()
"""


def test_tensorflow_is_loaded_without_its_start_lines_and_a_failing_import_is_shown(tmp_path):
    (tmp_path / "tensorflow.py").write_text(
        "import os; os.write(2, b'why it fails\\n'); raise ImportError('broken')"
    )
    shown = subprocess.run(
        [sys.executable, "-c", LOAD, str(tmp_path)], capture_output=True, text=True, check=False
    )
    lines = shown.stderr.splitlines()
    assert lines[:2] == ["errors are heard", "why it fails"] and lines[-1] == "ImportError: broken"


def test_only_the_users_own_trainings_are_heard_in_a_repair(caplog):
    import explosions
    import keras

    import nanfix

    def noisy(truth, prediction):
        LOUD.warning("traced")
        return keras.ops.mean(keras.ops.square(truth - prediction))

    x, y = explosions.table(rows=64)
    model = explosions.mlp(keras.optimizers.SGD(30.0), noisy)
    report = nanfix.fit(
        model, x, y, epochs=3, batch_size=16, verbose=0, strategies=["lower-learning-rate"]
    )
    assert report.outcome is nanfix.Outcome.REPAIRED and len(report.trials) > 0
    # When the training began.
    assert len([record for record in caplog.records if record.name == "tensorflow"]) == 1
