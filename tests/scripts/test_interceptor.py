"""What stands in for `model.fit` in a script, with `nanfix.fit` itself replaced."""

import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
import watching

from nanfix.records.budget import Budget
from nanfix.records.errors import InputError, RunDirError
from nanfix.remedies.fix import Edit, Fix
from nanfix.report.report import Outcome, Report
from nanfix.scripts._interceptor import Interceptor
from nanfix.scripts._job import Job
from nanfix.scripts._process import result_of
from nanfix.search.workers.pool import ALONE


@pytest.fixture
def model(monkeypatch):
    import keras

    watching.put_back(monkeypatch)
    monkeypatch.setattr(keras.Model, "fit", keras.Model.fit)
    built = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)], name="tiny")
    built.compile("sgd", "mse")
    return built


@pytest.fixture
def intercepted(model, monkeypatch, folder):
    """Intercept fit with `answer(model, **arguments)` for nanfix.fit; return the job
    and the events so far.
    """
    import keras

    def start(answer, **job):
        controller = ModuleType("nanfix.api.fit")
        vars(controller).update(fit=answer)
        monkeypatch.setitem(sys.modules, "nanfix.api.fit", controller)
        asked = Job.model_validate({"mode": "repair", "seed": 1, **job})
        Interceptor(asked, folder / "events").install(keras)
        return lambda: [json.loads(line) for line in (folder / "events").read_text().splitlines()]

    return start


def report_of(model, outcome=Outcome.REPAIRED):
    return Report(outcome, model, {"loss": [3.0, 2.0]}, [0, 1], {"epochs": 2})


def test_every_argument_reaches_nanfix_by_name(model, intercepted, data):
    seen = {}

    def answer(trained, **arguments):
        seen.update(arguments)
        return report_of(trained)

    events = intercepted(answer, run_dir="runs", strategies=["a"], forbid=["b"])
    history = model.fit(*data, 2, epochs=2, verbose=0)
    assert seen.pop("x") is data[0] and seen.pop("y") is data[1]
    own = {
        "budget": Budget(),
        "strategies": ["a"],
        "forbid": ["b"],
        "seed": 1,
        "run_dir": "runs/call-0",
        "repair_divergence": False,
        "throw": False,
        "workers": ALONE,
    }
    assert seen == {**own, "batch_size": 2, "epochs": 2, "verbose": 0}
    assert (history.history, history.epoch, history.params) == (
        {"loss": [3.0, 2.0]},
        [0, 1],
        {"epochs": 2},
    )
    assert model.history is history
    (event,) = events()
    assert (event["kind"], event["call"], event["model"], event["finite"]) == (
        "fit",
        0,
        "tiny",
        True,
    )
    assert event["summary"] is None  # with verbose=0 nothing was shown of it


@pytest.fixture
def data():
    import numpy as np

    return np.zeros((4, 1)), np.zeros((4, 1))


def test_fits_inside_are_keras_own_and_a_healthy_history_is_keras_own(model, intercepted, data):
    def answer(trained, x, y, **_):
        inner = trained.fit(x, y, epochs=2, verbose=0)
        return Report(Outcome.HEALTHY, trained, dict(inner.history), inner.epoch, inner.params)

    events = intercepted(answer)
    first, second = model.fit(*data), model.fit(*data)
    assert (
        first is not second
        and second.history == {"loss": first.history["loss"]}
        and second.epoch == [0, 1]
    )
    assert [event["call"] for event in events()] == [0, 1]


def test_an_overridden_fit_is_caught_once_and_not_entered_again(intercepted, data):
    import keras

    class Own(keras.Model):
        entered = 0

        def call(self, inputs):
            return inputs * self.weight

        def build(self, shape):
            self.weight = self.add_weight(shape=(1,), name="w")

        def fit(self, both):
            Own.entered += 1
            return super().fit(*both, epochs=3, verbose=0)

    def answer(trained, x, y, **arguments):
        # Keras' signature, not the overriding one.
        trained.fit(x, y, epochs=arguments["epochs"], verbose=0)
        return report_of(trained)

    own = Own()
    own.compile("sgd", "mse")
    events = intercepted(answer)
    assert own.fit(data).epoch == [0, 1]
    assert Own.entered == 1 and len(events()) == 1 and "fit" not in vars(own)


def test_what_nanfix_refuses_keras_answers_itself(model, intercepted, data):
    def answer(trained, **_):
        raise InputError("not for nanfix")

    events = intercepted(answer)
    assert len(model.fit(*data, epochs=2, verbose=0).epoch) == 2
    assert events() == [{"kind": "unwatched", "call": 0, "model": "tiny", "text": "not for nanfix"}]


def test_another_runs_folder_ends_the_script(model, intercepted, data):
    def answer(trained, **_):
        raise RunDirError("of another run")

    events = intercepted(answer)
    with pytest.raises(SystemExit) as ending:
        model.fit(*data)
    assert ending.value.code == 2
    with pytest.raises(RunDirError, match="of another run"):
        result_of(2, events())


def test_an_interrupted_fit_interrupts_the_script(model, intercepted, data):
    events = intercepted(lambda trained, **_: report_of(trained, Outcome.INTERRUPTED))
    with pytest.raises(KeyboardInterrupt):
        model.fit(*data)
    assert result_of(130, events()).calls[0].outcome is Outcome.INTERRUPTED


def test_run_mode_gives_each_call_its_fix_and_never_searches(model, intercepted, data, monkeypatch):
    monkeypatch.setattr(Edit, "from_json", lambda edit: Edit(edit["strategy"]))
    layers, seen = {"dense[0]": ["Dense", []]}, []

    def answer(trained, **arguments):
        seen.append({name: arguments.get(name) for name in ("fix", "strategies", "budget")})
        return report_of(trained)

    intercepted(answer, mode="run", fixes={"1": {"edits": [{"strategy": "a"}], "layers": layers}})
    for _ in range(2):
        model.fit(*data)
    unsearched, fixed = seen
    assert unsearched == {"fix": None, "strategies": (), "budget": None}
    assert (
        fixed == {"fix": Fix((Edit("a"),)), "strategies": None, "budget": None}
        and fixed["fix"].layers == layers
    )


def test_the_logs_of_a_proof_are_apart_from_those_of_the_repair(model, intercepted, data, folder):
    import keras

    logger, board = (
        keras.callbacks.CSVLogger("log.csv", append=True),
        keras.callbacks.TensorBoard("board"),
    )
    Path("log.csv").write_text("epoch,loss\n0,3.0\n")

    def answer(trained, callbacks, **_):
        assert callbacks == [logger, board]
        Path(logger.filename).write_text("of the proof")
        Path(board.log_dir).mkdir()
        return report_of(trained)

    events = intercepted(answer, mode="run", fixes={}, logs=str(folder / "proof"))
    model.fit(*data, callbacks=[logger, board])
    assert (logger.filename, board.log_dir) == ("log.csv", "board")
    assert Path("log.csv").read_text() == "epoch,loss\n0,3.0\n" and not Path("board").exists()
    assert sorted(path.name for path in Path("proof/call-0").iterdir()) == ["0-log.csv", "1-board"]
    assert "REPAIRED" in events()[0]["summary"]
