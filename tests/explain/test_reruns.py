"""Reruns with one thing changed: what cures is told apart from what does not, and
nothing is left behind.
"""

import explosions
import numpy as np
import pytest

from nanfix.data.training_data import TrainingData
from nanfix.explain.incident import Incident
from nanfix.model.snapshot import restore, state_variables
from nanfix.recorder.watch import Watching, watch


def incident(build):
    model, x, y, arguments = build()
    data = TrainingData.of(x, y, arguments)
    return Incident(model, data, watch(model, data), Watching(), seed=0)


def tried(run, seconds=60.0):
    """Return all reruns; a machine that is busy with other tests must not run out of time."""
    return run.tried_otherwise(run.measured(), seconds=seconds)


@pytest.fixture(scope="module")
def reruns():
    """What each explosion came to with one thing changed, tried once for all tests."""
    builds = (
        explosions.learning_rate,
        explosions.schedule,
        explosions.unscaled_inputs,
        explosions.large_targets,
        explosions.initialization,
        explosions.feedback,
        explosions.linear_throughout,
        explosions.root_of_distance,
        explosions.half_precision,
        explosions.missing_cells,
    )
    return {build: tried(incident(build)) for build in builds}


@pytest.mark.parametrize(
    ("build", "change"),
    [
        (explosions.learning_rate, "rate"),
        (explosions.schedule, "rate"),
        (explosions.unscaled_inputs, "inputs"),
        (explosions.large_targets, "targets"),
        (explosions.initialization, "weights"),
        (explosions.feedback, "activation"),
        (explosions.linear_throughout, "activation"),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_taking_the_cause_away_cures(reruns, build, change):
    assert not reruns[build].unchanged.finite
    rerun = getattr(reruns[build], change)
    assert rerun.cured, str(rerun)
    assert "stay finite and the loss goes from" in str(rerun)


def test_weights_left_alone_stay_finite_when_the_rate_is_the_cause(reruns):
    assert reruns[explosions.learning_rate].no_update is True
    assert reruns[explosions.schedule].no_update is True


def test_lower_rate_does_not_cure_weights_that_are_too_large(reruns):
    assert not reruns[explosions.initialization].rate.cured


def test_scaling_the_targets_does_not_cure_unscaled_inputs(reruns):
    assert (
        reruns[explosions.unscaled_inputs].targets is None
        or not reruns[explosions.unscaled_inputs].targets.cured
    )


def test_batch_that_fails_alone_is_told_from_weights_that_fail_on_all(reruns):
    failing, others = reruns[explosions.root_of_distance].others
    assert failing <= others / 2  # others, drawn at random, may hold that row too


def test_batch_with_a_hole_fails_on_the_initial_weights_too(reruns):
    assert reruns[explosions.missing_cells].initial is False
    assert "on the initial weights the same batch fails too" in str(
        reruns[explosions.missing_cells]
    )


def test_half_precision_is_tried_in_full(reruns):
    assert reruns[explosions.half_precision].full_precision is True
    assert "in float32 it stays finite" in str(reruns[explosions.half_precision])


def test_nothing_is_tried_when_there_is_no_time():
    nothing = tried(incident(explosions.learning_rate), seconds=0.0)
    assert nothing.unchanged is None and "time ran out before all was tried" in str(nothing)


def test_everything_is_put_back():
    run = incident(explosions.feedback)
    restore(run.recording.newest)
    before = [np.asarray(variable).copy() for variable in state_variables(run.model)]
    activation, function = run.model.layers[0].cell.activation, run.model.train_function
    assert tried(run).activation is not None
    assert (
        run.model.layers[0].cell.activation is activation and run.model.train_function is function
    )
    for variable, value in zip(state_variables(run.model), before, strict=True):
        np.testing.assert_array_equal(np.asarray(variable), value)
