"""Scripts run as they are: arguments, folder, output, exit code and traceback stay
theirs; their fits are repaired.
"""

import json
import math
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest
import watching

from nanfix.records.budget import Budget
from nanfix.records.errors import InputError, NanfixError, RunDirError, ScriptError
from nanfix.records.source_changes import ArgumentChange, CallChange
from nanfix.remedies.fix import Edit, Fix
from nanfix.report.fix_file import RunRecord, load
from nanfix.report.report import Outcome, Report
from nanfix.scripts import parent as module
from nanfix.scripts._interceptor import Interceptor
from nanfix.scripts._job import Job, KnownFix
from nanfix.scripts._process import result_of
from nanfix.scripts.parent import diagnose_script, plan_script, repair_script, run_script_with_fix
from nanfix.scripts.results import CallResult, ScriptResult
from nanfix.scripts.script import Module
from nanfix.search.workers.pool import ALONE, Workers

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
FAILING = """
import sys
import numpy as np
import keras

def train(rate):
    X = np.linspace(-1, 1, 64).reshape(-1, 2)
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)], name="line")
    model.compile(keras.optimizers.SGD(rate), "mse")
    return model, model.fit(X, X.sum(1), batch_size=16, epochs=8, verbose=0)

if __name__ == "__main__":
    keras.utils.set_random_seed(0)
    fine, first = train(0.1)
    model, history = train(float(sys.argv[1]))
    print("epochs", len(first.epoch), len(history.epoch), history.params["epochs"])
    print("finite", np.isfinite(history.history["loss"][-1]), np.isfinite(model.get_weights()[0]).all())
"""  # noqa: E501


@pytest.fixture(autouse=True)
def folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(name, text):
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def plainly(script, *args):
    command = ["-m", str(script)] if isinstance(script, Module) else [str(script)]
    return subprocess.run(
        [sys.executable, *command, *args], capture_output=True, text=True, check=False
    )


def test_a_script_sees_what_it_would_see_without_nanfix(capfd):
    write("sub/helper.py", "seen = 1")
    path = write("sub/look.py", LOOK)
    write("json.py", "raise ImportError('a file in the working folder')")
    plain = plainly(path, "--seed", "1", "a b")
    result = repair_script(path, ["--seed", "1", "a b"])
    assert plain.returncode == 0
    assert capfd.readouterr() == (plain.stdout, plain.stderr)
    assert result.exit_code == 0


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


def test_missing_modules_are_refused():
    write("pack/__init__.py", "")
    write("pack/train.py", "")
    for name in ("absent", "absent.train", "pack.absent", "pack.train.absent"):
        with pytest.raises(
            ScriptError, match=rf"There is no module '{name}'\. Expected: .* Received: "
        ):
            repair_script(Module(name), out=Path("fix.json"))
    assert not Path("fix.json").exists()


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


def test_no_fit_call_is_said():
    result = repair_script(write("idle.py", "pass"), out=Path("fix.json"))
    assert (result.code, result.exit_code, result.written) == (2, 0, None)
    assert "No call of model.fit was seen" in result.notes[0]


def test_a_killed_script_passes_its_signal_on():
    result = repair_script(write("killed.py", "import os\nos.kill(os.getpid(), 9)"))
    assert result.code == 128 + signal.SIGKILL


def test_interrupting_nanfix_interrupts_the_script():
    write("slow.py", "import time\nprint('ready', flush=True)\ntime.sleep(60)")
    command = [sys.executable, "-m", "nanfix.cli.app", "repair", "slow.py"]
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, text=True, **pipes) as process:
        assert process.stdout and process.stdout.readline() == "ready\n"
        begun = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 130 and time.monotonic() - begun < 30
    assert "KeyboardInterrupt" in errors and "nothing was written" in errors


def test_missing_scripts_are_refused():
    for path in (Path("absent.py"), Path()):
        with pytest.raises(ScriptError, match="Expected: a Python training script"):
            repair_script(path)


# The interceptor, with nanfix.fit itself replaced.


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


# Judging the two runs.


def ended(outcome, *, finite=True, call=0, exit_code=0):
    record = RunRecord.model_validate({"call": call, "outcome": outcome.name, "edits": []})
    return ScriptResult(exit_code, (CallResult(call, "net", "text", outcome, finite, {}, record),))


@pytest.mark.parametrize(
    ("second", "proof", "code"),
    [
        (ended(Outcome.REPAIRED), "held", 0),
        (ended(Outcome.REPAIRED, finite=False), "did not hold", 4),
        (ended(Outcome.EXHAUSTED), "did not hold", 4),
        (ended(Outcome.REPAIRED, exit_code=1), "did not hold", 4),
        (ended(Outcome.REPAIRED, call=1), "did not hold", 4),
        (ScriptResult(0), "did not hold", 4),
    ],
)
def test_only_a_proved_fix_is_written(monkeypatch, second, proof, code):
    runs = iter([ended(Outcome.REPAIRED), second])
    monkeypatch.setattr(module, "run", lambda *_: next(runs))
    result = repair_script(write("train.py", ""), out=Path("fix.json"), run_dir=Path("run"))
    assert (result.calls[0].proof, result.code) == (proof, code)
    for path in (Path("fix.json"), Path("run/fix.json")):
        assert path.exists() == (proof == "held")
    if proof == "held":
        assert result.written == Path("fix.json") and load(Path("fix.json")).runs[0].proof == "held"


def test_the_second_run_is_announced_and_its_logs_are_thrown_away(monkeypatch, caplog):
    jobs, runs = [], iter([ended(Outcome.REPAIRED), ended(Outcome.REPAIRED)])

    def run(script, args, job):
        jobs.append(job)
        if job.logs is not None:
            Path(job.logs, "call-0").mkdir()
        return next(runs)

    monkeypatch.setattr(module, "run", run)
    with caplog.at_level("INFO", "nanfix"):
        repair_script(write("train.py", ""))
    assert jobs[0].logs is None and not Path(jobs[1].logs).exists()
    assert [record.message.partition("\n")[0] for record in caplog.records] == [
        (
            "---- Second run of the script, with the fix and no search, to prove it (--no-prove "
            "leaves it out)."
        ),
        "---- End of the second run.",
    ]


def test_a_repair_may_do_without_the_proof(monkeypatch):
    runs = iter([ended(Outcome.REPAIRED)])
    monkeypatch.setattr(module, "run", lambda *_: next(runs))
    result = repair_script(write("train.py", ""), out=Path("fix.json"), prove=False)
    assert (result.code, result.calls[0].proof, result.written) == (0, None, Path("fix.json"))
    assert result.notes == (module.NOT_RUN_AGAIN,) and load(Path("fix.json")).runs[0].proof is None


def fit_event(call, source, counts):
    record = RunRecord.model_validate(
        {"call": call, "outcome": "REPAIRED", "edits": [], "source": source}
    )
    told = {"finite": True, "text": "", "history": {}, "files": {"train.py": "0" * 64}}
    return {
        "kind": "fit",
        "call": call,
        "model": "net",
        "record": record.model_dump_json(),
        "counts": counts,
        **told,
    }


def test_what_a_call_makes_is_counted_to_the_end_of_the_script():
    place = {"file": "train.py", "line": 3, "column": 0, "end_line": 3, "end_column": 9}
    elsewhere = {**place, "line": 5, "end_line": 5}
    dense = ArgumentChange(
        target={"place": place, "callee": "Dense"}, name="activation", value="'tanh'"
    )
    net = CallChange(
        file="train.py", line=9, target={"place": place, "callee": "Net"}, outputs=(2.0, 0.0)
    )
    last = [(place, "Dense", 3), (elsewhere, "Dense", 1), (place, "Net", 1), (elsewhere, "Net", 1)]
    result = result_of(
        0, [fit_event(0, [dense, net], [(place, "Dense", 1)]), fit_event(1, [], last)]
    )
    first = result.calls[0]
    # One call of a class, wherever its models are made.
    assert [change.target.made for change in first.record.source] == [3, 2]
    assert first.files == {"train.py": "0" * 64}


def test_a_job_arrives_as_it_was_sent():
    """Infinity and NaN too, wherever a fix has them."""
    known = KnownFix(edits=[{"strategy": "a", "params": {"limit": math.inf, "rows": [1, 2.5]}}])
    budget = {"trials": 3, "seconds": 1e-300}
    job = Job(mode="run", fixes={2: known}, budget=budget, workers=Workers(2, port=7))
    assert Job.model_validate_json(job.model_dump_json()) == job
    assert type(Job.model_validate_json(job.model_dump_json()).budget["trials"]) is int


def test_a_script_that_fails_after_its_repair_is_not_run_again(monkeypatch):
    runs = iter([ended(Outcome.REPAIRED, exit_code=5)])
    monkeypatch.setattr(module, "run", lambda *_: next(runs))
    result = repair_script(write("train.py", ""), out=Path("fix.json"))
    assert (
        result.code == 5
        and "could not be proved" in result.notes[0]
        and not Path("fix.json").exists()
    )


def test_the_outputs_are_checked_before_the_script_starts():
    path = write("train.py", "open('started', 'w')")
    for options in ({"out": Path("absent/fix.json")}, {"run_dir": Path("train.py/run")}):
        with pytest.raises(NanfixError, match="Cannot write"):
            repair_script(path, **options)
    assert not Path("started").exists()


# The whole way, with a script that really explodes.


def test_a_failing_script_is_repaired_proved_and_run_with_its_fix(capfd):
    log = "verbose=0, callbacks=[keras.callbacks.CSVLogger('log.csv', append=True)])"
    path = write("train.py", FAILING.replace("verbose=0)", log))
    plain = plainly(path, "1000")
    assert plain.stdout.splitlines()[-1] == "finite False False"
    result = repair_script(path, ["1000"], out=Path("fix.json"), seed=0, run_dir=Path("run"))
    output = capfd.readouterr().out.splitlines()
    assert result.code == 0, result
    epochs = [
        int(line.partition(",")[0]) for line in Path("log.csv").read_text().splitlines()[1 + 16 :]
    ]
    # Of the repair alone: the plain run has logged 16 epochs before, the proof none.
    assert epochs == [*range(8), *range(8)]
    assert [line for line in output if line.startswith(("epochs", "finite"))] == [
        "epochs 8 8 8",
        "finite True True",
    ] * 2
    assert [(call.outcome, call.proof) for call in result.calls] == [
        (Outcome.HEALTHY, None),
        (Outcome.REPAIRED, "held"),
    ]
    content = load(Path("fix.json"))
    assert [bool(run.edits) for run in content.runs] == [False, True]
    assert content.script == "train.py" and content.runs[1].fingerprint["optimizer"] == "SGD"
    assert Path("run/fix.json").read_text() == Path("fix.json").read_text()
    assert Path("run/call-1/model.keras").is_file() and not Path("run/call-0/model.keras").exists()
    again = run_script_with_fix(path, ["1000"], Path("fix.json"))
    assert again.code == 0 and "finite True True" in capfd.readouterr().out


def test_a_script_goes_on_as_it_would_have_when_no_fix_holds(capfd):
    path = write("train.py", FAILING + "    sys.exit(7)\n")
    plain = plainly(path, "1e30")
    result = repair_script(path, ["1e30"], strategies=["reset-moments"])
    printed = capfd.readouterr().out
    assert "epochs 8 8 8\nfinite False" in plain.stdout
    # The weights are those of the last good state.
    assert "epochs 8 8 8\nfinite False True" in printed
    assert plain.returncode == result.exit_code == result.code == 7
    assert result.calls[1].outcome is Outcome.EXHAUSTED and result.written is None


def test_a_script_is_explained_up_to_the_fit_that_fails(capfd):
    path = write("train.py", FAILING)
    result = diagnose_script(path, ["1e6"])
    first, second = result.calls
    assert result.code == 0
    assert first.text == "Training stayed finite."
    assert "Cause: the learning rate is too high" in second.text and "stay finite" in second.text
    # It ended there, before it used what has no weights.
    assert "epochs" not in capfd.readouterr().out
    assert list(Path().iterdir()) == [path]
    assert second.diagnosis is not None and second.diagnosis.cause == "LEARNING_RATE"


def test_a_dry_run_lists_what_would_be_tried_and_writes_nothing(capfd):
    path = write("train.py", FAILING)
    result = plan_script(path, ["1e6"], budget={"trials": 5}, forbid=["clip-gradients"])
    first, second = result.calls
    assert (result.code, list(first.candidates), first.diagnosis) == (0, [], None)
    assert len(second.candidates) == 5 and second.diagnosis is not None
    assert "clip-gradients" not in {edit["strategy"] for fix in second.candidates for edit in fix}
    assert "Would be tried, in this order" in second.text and "\n  5. " in second.text
    assert "epochs" not in capfd.readouterr().out
    assert list(Path().iterdir()) == [path]
