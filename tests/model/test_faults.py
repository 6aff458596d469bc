"""The net: a fault of nanfix's own, wherever it happens, costs the user no more than nanfix."""

from functools import partial

import explosions
import keras
import numpy as np
import pytest
import tensorflow as tf
from broken import QUICK, Broken, Own, assert_usable, exploding, fails
from parameters import shortened

import nanfix
from nanfix import Outcome
from nanfix.api.plan import train_and_plan
from nanfix.model.faults import Net, is_raised_by_nanfix, is_refusal, is_users_own
from nanfix.remedies.registry import catalogue

# Work after the failure. In `make test`: one of each room, and of the evidence one piece.
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
SELDOM = (
    "nanfix.explain.incident.measure_growth",
    "nanfix.explain.incident.current_learning_rate",
    "nanfix.explain.incident.audit",
    "nanfix.search.repair.measure_baselines",
    "nanfix.search.search.choose",
    "nanfix.install.workbench.Workbench.prepare",
    "nanfix.install.workbench.Workbench.open",
    "nanfix.strategies.lower_learning_rate.LowerLearningRate.refusal",
    "nanfix.strategies.lower_learning_rate.LowerLearningRate.space",
)


@pytest.mark.parametrize("piece", shortened((*OFTEN, *SELDOM), OFTEN))
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


def test_what_a_line_of_nanfixs_raises_is_told_from_what_it_calls():
    assert is_raised_by_nanfix(error_of(lambda: nanfix.Budget(trials=0)))
    assert not is_raised_by_nanfix(error_of(lambda: Net().attempt("x", fails, None)))
    assert not is_raised_by_nanfix(error_of(lambda: keras.layers.Dense(2)(tf.zeros(()))))
    model = keras.Model()
    model.call = lambda x: Net().attempt("x", partial(keras.Model.call, model, x), None)
    # Keras takes its own lines out, so that the last one is of nanfix.
    assert not is_raised_by_nanfix(error_of(lambda: model(tf.zeros((1, 1)))))


def test_a_refusal_of_keras_or_tensorflow_is_no_fault():
    assert is_refusal(error_of(lambda: tf.matmul(tf.zeros((2, 3)), tf.zeros((2, 3)))))
    assert is_refusal(error_of(lambda: keras.layers.Dense(2)(tf.zeros(()))))
    assert not is_refusal(error_of(lambda: {}["x"]))


@pytest.mark.parametrize(
    "explain", [nanfix.diagnose, train_and_plan], ids=lambda explain: explain.__name__
)
def test_a_fault_of_an_explanation_says_that_it_is_one(explain, under_the_net):
    under_the_net("nanfix.explain.incident.describe", fails)
    model, x, y, arguments = exploding()
    with pytest.raises(nanfix.NanfixError, match=r"nanfix itself failed while .* Please report"):
        explain(model, x, y, **arguments)
    assert_usable(model, x)
