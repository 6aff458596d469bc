"""Loops of fit calls of which one fails: those after it begin with its fix."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest
import watching
from parameters import shortened

from nanfix.report.fix_file import FixFile, beginnings
from nanfix.report.report import Outcome
from nanfix.scripts._interceptor import Interceptor
from nanfix.scripts._job import Job, KnownFix
from nanfix.scripts._process import result_of

ROWS, RATE, SKIP = "drop-nonfinite-rows", "lower-learning-rate", "skip-nonfinite-steps"
HEALTHY, REPAIRED = Outcome.HEALTHY, Outcome.REPAIRED


def line(rate=0.1, columns=2, name="line"):
    model = keras.Sequential([keras.Input((columns,)), keras.layers.Dense(1)], name=name)
    model.compile(keras.optimizers.SGD(rate), "mse")
    return model


def train(model, *, ruined=False, columns=2, unit=1.0, callbacks=()):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(48, columns)).astype("float32")
    y = x.sum(1)
    x *= unit
    if ruined:
        y[::8] = np.nan
    return model.fit(x, y, batch_size=16, epochs=1, verbose=0, callbacks=list(callbacks))


def one_model():
    model = line()
    for ruined in (False, True, True, False):
        train(model, ruined=ruined)


def a_model_for_each_fold():
    for ruined in (False, False, True, True):
        train(line(), ruined=ruined)


def two_models_in_turn():
    first, second = line(), keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    second.compile("sgd", "mse")
    for ruined in (False, True, True):
        train(first, ruined=ruined)
        train(second)


def what_stays_with_the_model():
    model = line(1e12)
    for _ in range(3):
        train(model)


def compiled_before_each_call():
    model = line()
    for rate in (0.1, 1e12, 1e12, 0.1):
        model.compile(keras.optimizers.SGD(rate), "mse")
        train(model)


def a_search_among_rates():
    for rate in (0.1, 1e12, 0.1, 1e12):
        train(line(rate))


def other_columns():
    for columns in (2, 2, 3):
        train(line(columns=columns), columns=columns, ruined=columns == 2)


def helper_called_from_two_lines():
    train(line(), ruined=True)
    train(line())


# By loop: the strategy; for each call the outcome, and the call whose fix it has trained with; and
# the call from which on another run knows the fix.
LOOPS = {
    one_model: ([ROWS], [HEALTHY, REPAIRED, (REPAIRED, 1), (REPAIRED, 1)], 0),
    a_model_for_each_fold: ([ROWS], [HEALTHY, HEALTHY, REPAIRED, (REPAIRED, 2)], 0),
    two_models_in_turn: (
        [ROWS],
        [HEALTHY, HEALTHY, REPAIRED, HEALTHY, (REPAIRED, 2), HEALTHY],
        0,
    ),
    what_stays_with_the_model: ([RATE], [REPAIRED, (HEALTHY, 0), (HEALTHY, 0)], 0),
    compiled_before_each_call: ([RATE], [HEALTHY, REPAIRED, (REPAIRED, 1), HEALTHY], 1),
    a_search_among_rates: ([RATE], [HEALTHY, REPAIRED, HEALTHY, (REPAIRED, 1)], 1),
    other_columns: ([ROWS], [REPAIRED, (REPAIRED, 0), (REPAIRED, 0)], 0),
    helper_called_from_two_lines: ([ROWS], [REPAIRED, HEALTHY], 0),
}


@pytest.fixture
def intercepted(monkeypatch, folder):
    """Run a loop as if it stood in a script; return what came of its fit calls."""
    watching.put_back(monkeypatch)
    monkeypatch.setattr(keras.Model, "fit", keras.Model.fit)
    plain = keras.Model.fit

    def run(loop, **job):
        events = folder / f"events-{job['mode']}"
        keras.Model.fit = plain
        keras.utils.set_random_seed(0)
        Interceptor(Job.model_validate({"seed": 0, **job}), events).install(keras)
        loop()
        return result_of(0, [json.loads(each) for each in Path(events).read_text().splitlines()])

    return run


QUICK = (one_model, what_stays_with_the_model, compiled_before_each_call)


@pytest.mark.parametrize("loop", shortened(LOOPS, QUICK), ids=lambda loop: loop.__name__)
def test_the_fix_of_a_call_in_a_loop_is_what_later_calls_begin_with(intercepted, loop):
    strategies, expected, begins = LOOPS[loop]
    first = intercepted(loop, mode="repair", strategies=strategies, budget={"trials": 3})
    told = [call if isinstance(call, tuple) else (call, None) for call in expected]
    assert [(call.outcome, call.record.carried) for call in first.calls] == told
    assert all(call.finite for call in first.calls)
    number = told.index((REPAIRED, None))
    assert [edit.strategy for edit in first.calls[number].record.edits] == strategies
    # Another run knows the fix from the first call on that it is for, and searches nothing.
    known = beginnings(FixFile(runs=[call.record for call in first.calls]))
    assert set(known) == {begins}
    fixes = {call: KnownFix.of(fix) for call, fix in known.items()}
    second = intercepted(loop, mode="run", fixes=fixes)
    assert all(call.finite and call.outcome in (HEALTHY, REPAIRED) for call in second.calls)
    carried = [call.call for call in first.calls if call.record.carried == number]
    assert set(carried) <= {call.call for call in second.calls if call.record.carried == begins}


class Told(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.said = []

    def on_train_begin(self, logs=None):
        self.said.append("begin")

    def on_train_end(self, logs=None):
        self.said.append("end")


def test_a_call_in_which_a_carried_fix_does_not_hold_is_repaired_by_itself(intercepted):
    told = Told()

    def loop():
        for rate in (0.1, 1e12, 1e12):
            train(line(rate), ruined=rate < 1, callbacks=[told])

    first = intercepted(loop, mode="repair", strategies=[ROWS, RATE], budget={"trials": 3})
    assert [call.outcome for call in first.calls] == [REPAIRED] * 3
    edits = [[edit.strategy for edit in call.record.edits] for call in first.calls]
    assert edits == [[ROWS], [RATE], []] and first.calls[2].record.carried == 1
    (note,) = (note for note in first.calls[1].record.notes if "did not work here" in note)
    assert "began again without it" in note and note in first.calls[1].text
    assert told.said == ["begin", "end"] * 3


def test_a_call_that_a_carried_fix_does_not_fit_goes_without_it_and_says_so(intercepted):
    def loop():
        for columns in (2, 3):
            train(line(1e-2, columns), columns=columns, unit=1e9)

    first = intercepted(loop, mode="repair", strategies=["scale-inputs"], budget={"trials": 3})
    assert all(call.outcome.has_fix for call in first.calls)
    told = first.calls[1].text
    assert "found for another" in told and "without the fix of an earlier training" in told
    assert [call.record.carried for call in first.calls] == [None] * 2
