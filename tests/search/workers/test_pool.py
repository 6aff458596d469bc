"""Searches by several processes: the same fix, restarted workers, and what is said
where it cannot be.
"""

import sys
import threading
import time

import explosions
import keras
import numpy as np
import psutil
import pytest

import nanfix
from nanfix.records.errors import InputError, NanfixError
from nanfix.report.report import Outcome
from nanfix.search.oracle import LadderOracle
from nanfix.search.workers import pool
from nanfix.search.workers.pool import WorkerPool, Workers

STRATEGIES = ("lower-learning-rate", "scale-inputs", "scale-targets")


def repaired(**arguments):
    model, x, y, fit = explosions.unscaled_inputs()
    return nanfix.fit(model, x, y, strategies=STRATEGIES, seed=0, **arguments, **fit), x


def kill_the_first_worker(log):
    """Kill the worker that writes this log once it runs trials."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        workers = [
            p
            for p in psutil.Process().children()
            if "nanfix.search.workers.worker" in " ".join(p.cmdline())
        ]
        if workers and log.exists():
            workers[0].kill()
            return
        time.sleep(0.05)


def test_two_processes_find_a_fix_also_when_one_is_killed(tmp_path, caplog, capsys, monkeypatch):
    ended, end_trial = [], LadderOracle.end_trial
    monkeypatch.setattr(
        LadderOracle, "end_trial", lambda self, trial: ended.append(trial) or end_trial(self, trial)
    )
    killer = threading.Thread(
        target=kill_the_first_worker, args=(tmp_path / "worker-input" / "worker-0.log",)
    )
    killer.start()
    report, x = repaired(workers=2, run_dir=tmp_path, budget=nanfix.Budget(trials=8))
    killer.join()
    assert report.outcome is Outcome.REPAIRED
    assert not any("one process" in note for note in report.notes)
    assert "is started again" in caplog.text
    assert len(report.trials) >= 2
    # None was tried again when the search went on after a proof, but for the one with which a
    # worker was killed, which may have ended it and not have said so.
    ids = [trial.trial_id for trial in ended]
    assert len(ids) - len({*ids}) <= 1, ids
    assert np.isfinite(report.model.predict(x, verbose=0)).all()
    assert capsys.readouterr().out == ""


def test_a_model_that_cannot_be_made_anew_is_searched_by_one_process():
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = keras.layers.Dense(1)

        def call(self, inputs):
            return self.dense(inputs)

    _, x, y, fit = explosions.unscaled_inputs()
    model = Own()
    model.compile(keras.optimizers.SGD(0.1), "mse")
    report = nanfix.fit(model, x, y, strategies=STRATEGIES, workers=2, **fit)
    assert report.outcome is Outcome.REPAIRED
    assert any(
        "Searched by one process, since the model is a subclass" in note for note in report.notes
    )


def in_main(name):
    """Return a function as a script defines it."""

    def halve(epoch, rate):
        return rate / 2

    halve.__module__, halve.__qualname__ = "__main__", name
    setattr(sys.modules["__main__"], name, halve)
    return halve


def test_what_the_script_itself_defines_is_searched_by_one_process(monkeypatch):
    """A layer, a loss and a callback's function; the workers would not find them, and
    are not started.
    """

    @keras.saving.register_keras_serializable("test_pool")
    class Twice(keras.layers.Layer):
        def call(self, inputs):
            return 2.0 * inputs

    @keras.saving.register_keras_serializable("test_pool")
    def absolute(truth, prediction):
        return keras.ops.mean(keras.ops.abs(truth - prediction))

    def asked(model, **arguments):
        _, x, y, fit = explosions.unscaled_inputs()
        repair = {"strategies": ["scale-inputs"], "workers": 2, "throw": False}
        repair["budget"] = nanfix.Budget(trials=1)
        report = nanfix.fit(model, x, y, **{**fit, **arguments}, **repair)
        return [note for note in report.notes if "Searched by one process" in note]

    monkeypatch.setattr(pool.WorkerPool, "run", lambda *_: pytest.fail("workers were started"))
    for own in (Twice, absolute):
        monkeypatch.setattr(own, "__module__", "__main__")
    model = keras.Sequential([keras.Input((4,)), Twice(), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.1), "mse")
    (note,) = asked(model)
    assert (
        "since test_what_the_script_itself_defines_is_searched_by_one_process.<locals>.Twice "
        "is defined in the script"
    ) in note
    (note,) = asked(explosions.mlp(keras.optimizers.SGD(3e30), absolute))
    assert "absolute is defined in the script itself" in note
    halving = keras.callbacks.LearningRateScheduler(in_main("halve_in_main"))
    (note,) = asked(explosions.unscaled_inputs()[0], callbacks=[halving])
    assert "halve_in_main is defined in the script itself" in note


def test_a_worker_that_dies_again_and_again_ends_the_search_with_its_output(tmp_path, monkeypatch):
    monkeypatch.setattr(pool, "RESTARTS", 0)
    with pytest.raises(
        NanfixError, match=r"(?s)worker-0 of the search died 1 times.*FileNotFoundError"
    ):
        WorkerPool(Workers(1), tmp_path).run(None)


def test_a_port_in_use_is_told(tmp_path):
    with pytest.raises(NanfixError, match="Expected: an address of this machine and a free port"):
        WorkerPool(Workers(1, host="203.0.113.1"), tmp_path).run(None)


def test_numbers_that_make_no_sense_are_refused():
    for wrong in ({"count": 0}, {"port": -1}, {"port": 1 << 16}):
        with pytest.raises(InputError, match="Expected: count >= 1"):
            Workers(**wrong)
