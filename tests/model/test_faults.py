"""The net: a fault of nanfix's own, wherever it happens, costs the user no more than nanfix."""

import time
import traceback

import explosions
import keras
import numpy as np
import pytest
import tensorflow as tf
from parameters import shortened

import nanfix
from nanfix import Outcome
from nanfix.api.plan import train_and_plan
from nanfix.model.faults import Net, is_refusal, is_users_own
from nanfix.records.errors import InputError
from nanfix.remedies.registry import catalogue
from nanfix.search.judge import Judge
from nanfix.search.search_round import NO_TIME

QUICK = {"strategies": ["lower-learning-rate"], "budget": nanfix.Budget(trials=4)}


class Broken(Exception):
    """What is raised in the place of a piece of nanfix."""


def fails(*args, **kwargs):
    raise Broken("on purpose")


@pytest.fixture
def under_the_net(monkeypatch):
    """Let faults be caught, as they are at a user's, and let `put` break a piece of nanfix."""
    monkeypatch.setenv("NANFIX_DEBUG", "0")
    return monkeypatch.setattr


def exploding(**more):
    model, x, y, arguments = explosions.learning_rate()
    return model, x, y, {**arguments, **more}


def assert_usable(model, x):
    assert all(np.isfinite(weight).all() for weight in model.get_weights())
    assert np.isfinite(model.predict(x, verbose=0)).all()


AFTER_THE_FAILURE = (
    "nanfix.explain.incident.describe",
    "nanfix.explain.incident.replay",
    "nanfix.explain.incident.measure_growth",
    "nanfix.explain.incident.current_learning_rate",
    "nanfix.explain.incident.audit",
    "nanfix.explain.incident.try_otherwise",
    "nanfix.explain.incident.reason",
    "nanfix.search.repair.build_space",
    "nanfix.search.repair.measure_baselines",
    "nanfix.search.search_round.search",
    "nanfix.search.search.choose",
    "nanfix.search.search_round.prove",
    "nanfix.search.adoption.merged_history",
    "nanfix.install.workbench.Workbench.probe",
    "nanfix.install.workbench.Workbench.prepare",
    "nanfix.install.workbench.Workbench.open",
    "nanfix.install.workbench.Workbench.hand_back",
    "nanfix.strategies.lower_learning_rate.LowerLearningRate.refusal",
    "nanfix.strategies.lower_learning_rate.LowerLearningRate.space",
    "nanfix.strategies.lower_learning_rate.LowerLearningRate.apply",
)
# In `make test`: one of each room, and of the evidence one piece.
OFTEN = (
    "nanfix.explain.incident.describe",
    "nanfix.explain.incident.replay",
    "nanfix.explain.incident.try_otherwise",
    "nanfix.explain.incident.reason",
    "nanfix.search.repair.build_space",
    "nanfix.search.search_round.search",
    "nanfix.search.search_round.prove",
    "nanfix.search.adoption.merged_history",
    "nanfix.install.workbench.Workbench.probe",
    "nanfix.install.workbench.Workbench.hand_back",
    "nanfix.strategies.lower_learning_rate.LowerLearningRate.apply",
)


@pytest.mark.parametrize("piece", shortened(AFTER_THE_FAILURE, OFTEN))
def test_a_fault_after_the_failure_becomes_a_report(piece, under_the_net, tmp_path):
    model, x, y, arguments = exploding()
    under_the_net(piece, fails)
    report = nanfix.fit(model, x, y, throw=False, run_dir=tmp_path / "run", **QUICK, **arguments)
    assert report.outcome in (Outcome.EXHAUSTED, Outcome.REPAIRED)
    assert any("Broken: on purpose" in fault.error for fault in report.faults)
    assert "fails" in report.faults[0].traceback
    told = str(report)
    assert "nanfix itself failed while" in told and "Please report the fault" in told
    assert "on purpose" in (tmp_path / "run" / "fault.txt").read_text()
    assert_usable(model, x)
    assert len(report.history["loss"]) == arguments["epochs"]


def test_what_a_fault_leaves_out_does_not_end_the_repair(under_the_net):
    model, x, y, arguments = exploding()
    under_the_net("nanfix.explain.incident.try_otherwise", fails)
    report = nanfix.fit(model, x, y, **QUICK, **arguments)
    assert report.outcome is Outcome.REPAIRED and report.diagnosis.missing == (
        "the steps run otherwise",
    )
    assert "Evidence that is missing: the steps run otherwise." in str(report)


@pytest.mark.parametrize(
    "piece",
    shortened(
        [
            "nanfix.recorder._flight_recorder.take",
            "nanfix.recorder._flight_recorder.loss_of",
            "nanfix.recorder._batches.batch_bytes",
            "nanfix.recorder._flight_recorder.recordable",
        ],
        ["nanfix.recorder._flight_recorder.take", "nanfix.recorder._flight_recorder.loss_of"],
    ),
)
@pytest.mark.parametrize(
    "build", [explosions.healthy, explosions.learning_rate], ids=["healthy", "exploding"]
)
def test_a_fault_of_the_recorder_leaves_the_training_to_keras(build, piece, under_the_net):
    plain, x, y, arguments = build()
    history = plain.fit(x, y, **arguments).history
    model, x, y, arguments = build()
    under_the_net(piece, fails)
    report = nanfix.fit(model, x, y, throw=False, **arguments)
    assert report.outcome is (Outcome.HEALTHY if build is explosions.healthy else Outcome.EXHAUSTED)
    assert report.faults and "nanfix itself failed while watching the training" in str(report)
    np.testing.assert_equal(report.history, history)
    for left, right in zip(plain.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(left, right)


@pytest.mark.parametrize("piece", ["nanfix.api.fit.TrainingData.of", "nanfix.api.fit.fingerprint"])
def test_a_fault_before_the_training_leaves_it_to_keras(piece, under_the_net):
    plain, x, y, arguments = explosions.healthy()
    history = plain.fit(x, y, **arguments).history
    model, x, y, arguments = explosions.healthy()
    under_the_net(piece, fails)
    report = nanfix.fit(model, x, y, **arguments)
    assert (
        report.outcome is Outcome.HEALTHY and report.history == history and len(report.faults) == 1
    )


@pytest.mark.parametrize(
    "piece", ["nanfix.api._known_fix.describe", "nanfix.install.workbench.Workbench.hand_back"]
)
def test_a_fault_with_a_known_fix_trains_without_it(piece, under_the_net):
    fix = nanfix.Fix((nanfix.Edit("lower-learning-rate", {"learning_rate": 0.01}),))
    under_the_net(piece, fails)
    model, x, y, arguments = exploding()
    report = nanfix.fit(model, x, y, fix=fix, throw=False, **arguments)
    assert report.outcome is Outcome.EXHAUSTED and report.faults and not report.fix
    assert_usable(model, x)


def test_faults_are_raised_as_they_are_for_debugging(monkeypatch):
    monkeypatch.setattr("nanfix.explain.incident.audit", fails)
    model, x, y, arguments = exploding()
    with pytest.raises(Broken, match="on purpose"):
        nanfix.fit(model, x, y, **QUICK, **arguments)
    assert_usable(model, x)


class Own(Exception):
    """What the user's own code raises."""


def in_a_layer(after):
    """Return a model with a layer that raises once it has been called so often; it runs
    eagerly, so that it counts.
    """

    class Counting(keras.layers.Layer):
        calls = 0

        def call(self, inputs):
            Counting.calls += 1
            if Counting.calls > after:
                raise Own("no more")
            return inputs

    inputs = keras.Input((4,))
    model = keras.Model(inputs, keras.layers.Dense(1)(Counting()(inputs)))
    model.compile(keras.optimizers.SGD(1e4), "mse", run_eagerly=True)
    return model


@pytest.mark.parametrize("after", shortened([3, 30, 60, 120, 200], [3, 60, 200]))
def test_what_the_users_layer_raises_passes_unchanged(after, under_the_net):
    x, y = explosions.table(64)
    model = in_a_layer(after)
    with pytest.raises(Own, match="no more") as raised:
        for _ in range(20):
            nanfix.fit(model, x, y, epochs=2, verbose=0, throw=False, **QUICK)
    assert "in call" in "".join(traceback.format_tb(raised.tb))
    assert all(np.isfinite(weight).all() for weight in model.get_weights())


@pytest.mark.parametrize("hook", ["on_epoch_end", "on_train_batch_begin", "on_train_end"])
def test_what_the_users_callback_raises_passes_unchanged(hook, under_the_net):
    """The second time the hook is called is in the repaired training, or at the end of
    the failed one.
    """

    def act(self, *args, **kwargs):
        self.calls = getattr(self, "calls", 0) + 1
        # No statement of the user's own is needed for that, but any will do.
        raise KeyError(self.calls)

    model, x, y, arguments = exploding(
        callbacks=[type("Raises", (keras.callbacks.Callback,), {hook: act})()]
    )
    with pytest.raises(KeyError):
        nanfix.fit(model, x, y, throw=False, **QUICK, **arguments)
    assert all(np.isfinite(weight).all() for weight in model.get_weights())


def test_what_the_users_generator_raises_passes_as_keras_passes_it(under_the_net):
    x, y = explosions.table(64)

    def train(fit, rate):
        def batches():
            for _ in range(12):
                yield x[:16], y[:16]
            raise OSError("the disk is gone")

        model = explosions.mlp(keras.optimizers.SGD(rate))
        with pytest.raises(Exception, match="the disk is gone") as raised:
            fit(model, batches(), epochs=5, steps_per_epoch=4, verbose=0)
        assert_usable(model, x)
        return raised.type

    by_keras = train(lambda model, batches, **arguments: model.fit(batches, **arguments), 0.01)
    assert (
        train(
            lambda *given, **arguments: nanfix.fit(*given, throw=False, **QUICK, **arguments), 1e4
        )
        is by_keras
    )


def test_a_candidate_that_tensorflow_refuses_is_a_failed_trial(under_the_net):
    model, x, y, arguments = exploding()
    calls = []

    def refuse(self, *args, **kwargs):
        calls.append(args)
        if len(calls) < 3:
            raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating")
        return probe(self, *args, **kwargs)

    from nanfix.install.workbench import Workbench

    probe = Workbench.probe
    under_the_net("nanfix.install.workbench.Workbench.probe", refuse)
    report = nanfix.fit(model, x, y, strategies=["lower-learning-rate"], **arguments)
    assert report.outcome is Outcome.REPAIRED and not report.faults
    assert [trial.verdict for trial in report.trials[:2]] == ["refused", "refused"]
    assert report.trials[0].reason == "ResourceExhaustedError: OOM when allocating"


def test_a_broken_strategy_is_named_and_left_out(under_the_net):
    under_the_net("nanfix.strategies.clip_gradients.ClipGradients.space", fails)
    model, x, y, arguments = exploding()
    report = nanfix.fit(
        model, x, y, strategies=["lower-learning-rate", "clip-gradients"], **arguments
    )
    assert report.outcome is Outcome.REPAIRED
    assert report.refused["clip-gradients"] == "it failed (Broken: on purpose)"
    assert catalogue()["clip-gradients"].name not in {
        edit.strategy for trial in report.trials for edit in trial.edits
    }


def error_of(work):
    try:
        work()
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


def test_an_exception_is_the_users_own_where_their_code_raises_it():
    net = Net()

    class Raising:
        def train_step(self):
            raise Own("mine")

        def test_step(self):
            one, two = (1,)
            return one, two

        def __iter__(self):
            yield self.test_step()

    assert is_users_own(error_of(lambda: net.attempt("x", Raising().train_step, None)))
    # Of what nanfix fed it, perhaps.
    assert not is_users_own(error_of(lambda: net.attempt("x", Raising().test_step, None)))
    drawn = iter(Raising())
    assert is_users_own(error_of(lambda: net.attempt("x", drawn.__next__, None)))
    assert not is_users_own(error_of(lambda: net.attempt("x", fails, None)))


def test_a_refusal_of_keras_or_tensorflow_is_no_fault():
    assert is_refusal(error_of(lambda: tf.matmul(tf.zeros((2, 3)), tf.zeros((2, 3)))))
    assert is_refusal(error_of(lambda: keras.layers.Dense(2)(tf.zeros(()))))
    assert not is_refusal(error_of(lambda: {}["x"]))


PHASES = (
    "nanfix.explain.incident.replay",
    "nanfix.explain.incident.try_otherwise",
    "nanfix.search.repair.measure_baselines",
    "nanfix.search.judge.Judge.__call__",
    "nanfix.search.search_round.prove",
    "nanfix.search.adoption.merged_history",
    "nanfix.install.workbench.Workbench.hand_back",
)
INTERRUPTED_OFTEN = (
    "nanfix.explain.incident.replay",
    "nanfix.search.judge.Judge.__call__",
    "nanfix.search.adoption.merged_history",
    "nanfix.install.workbench.Workbench.hand_back",
)


def interrupted(*args, **kwargs):
    raise KeyboardInterrupt


@pytest.mark.parametrize("piece", shortened(PHASES, INTERRUPTED_OFTEN))
def test_an_interrupt_in_any_phase_leaves_the_model_in_its_last_good_state(piece, under_the_net):
    model, x, y, arguments = exploding()
    initial = model.get_weights()
    under_the_net(piece, interrupted)
    report = nanfix.fit(model, x, y, throw=False, **QUICK, **arguments)
    assert report.outcome is Outcome.INTERRUPTED and not report.faults
    for left, right in zip(initial, model.get_weights(), strict=True):
        np.testing.assert_array_equal(left, right)


def test_an_interrupt_goes_on_to_the_user(under_the_net):
    model, x, y, arguments = exploding()
    under_the_net("nanfix.explain.incident.replay", interrupted)
    with pytest.raises(KeyboardInterrupt):
        nanfix.fit(model, x, y, **QUICK, **arguments)
    assert_usable(model, x)


@pytest.mark.parametrize("fix", [None, nanfix.Fix()], ids=["search", "known fix"])
def test_an_interrupt_in_the_training_itself_is_reported_too(fix):
    def stop(epoch, logs):
        raise KeyboardInterrupt

    model, x, y, arguments = explosions.healthy()
    callbacks = [keras.callbacks.LambdaCallback(on_epoch_end=stop)]
    report = nanfix.fit(model, x, y, throw=False, fix=fix, **{**arguments, "callbacks": callbacks})
    assert report.outcome is Outcome.INTERRUPTED
    assert_usable(model, x)


@pytest.mark.parametrize(
    "explain", [nanfix.diagnose, train_and_plan], ids=lambda explain: explain.__name__
)
def test_a_fault_of_an_explanation_says_that_it_is_one(explain, under_the_net):
    under_the_net("nanfix.explain.incident.describe", fails)
    model, x, y, arguments = exploding()
    with pytest.raises(nanfix.NanfixError, match=r"nanfix itself failed while .* Please report"):
        explain(model, x, y, **arguments)
    assert_usable(model, x)


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("budget", 3),
        ("workers", 0),
        ("workers", "two"),
        ("strategies", "scale-inputs"),
        ("forbid", "scale-inputs"),
        ("seed", 0.5),
        ("fix", "fix.json"),
    ],
)
def test_an_argument_of_the_wrong_kind_is_refused_at_the_door(argument, value, tmp_path):
    model, x, y, arguments = exploding()
    with pytest.raises(InputError, match=rf"^{argument} .* Expected: .* Received: {argument}="):
        nanfix.fit(model, x, y, run_dir=tmp_path / "run", **{argument: value}, **arguments)
    assert not (tmp_path / "run").exists()


def test_the_seconds_of_a_budget_end_search_and_proof(monkeypatch):
    """The clock runs an hour ahead once the first trial is over: what held by then is
    trained with, and not proved.
    """
    late = []
    judged, now = Judge.__call__, time.monotonic
    monkeypatch.setattr(
        "nanfix.search.judge.Judge.__call__",
        lambda *given: (judged(*given), late.append(3600.0))[0],
    )
    monkeypatch.setattr("time.monotonic", lambda: now() + sum(late))
    model, x, y, arguments = exploding()
    budget = nanfix.Budget(seconds=600.0)
    report = nanfix.fit(
        model, x, y, strategies=["swap-optimizer"], budget=budget, throw=False, **arguments
    )
    assert len(report.trials) == len(late) == 1
    assert report.outcome is Outcome.REPAIRED and NO_TIME in report.notes
