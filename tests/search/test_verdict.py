"""Whether a training with a fix has learned, told from figures alone."""

import math

import numpy as np
import pytest

from nanfix.search.verdict import (
    Baselines,
    Begun,
    better_than,
    directions,
    holds,
    same_for_all,
    short_of_the_mean,
    shortfall,
    the_same,
    unlearned,
    untouched,
)

SINGLE = Baselines(untrained=2.0, constant=1.0, figures={"loss": 2.0, "accuracy": 0.5})
TWO = Baselines(untrained=9.0, constant=3.0, constants={"a_loss": 1.0, "b_loss": 2.0, "loss": 3.0})


def lacking(loss, figures=(), baselines=SINGLE, begun=None, **more):
    given = dict(figures)
    return shortfall(loss, given, baselines, begun=begun, directions=directions(given), **more)


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_loss_has_to_be_finite(loss):
    assert "not finite" in str(lacking(loss))


def test_what_has_learned_is_better_than_a_constant_by_more_than_noise():
    assert lacking(0.98) is None
    assert "a constant prediction" in str(lacking(0.995)) and "0.995" in str(lacking(0.995))
    assert "the untrained model" in str(lacking(2.5))
    assert better_than(-10.0) == -10.1 and better_than(None) == math.inf


def test_what_only_treats_the_data_need_not_be_better_than_a_constant_yet():
    assert lacking(1.5, of_data=True) is None
    assert lacking(1.995, of_data=True) is None
    assert "the untrained model" in str(lacking(2.0, of_data=True))


def test_a_capped_loss_is_measured_against_the_same_cap():
    assert "the untrained model" in str(lacking(-16.1, begun=-16.1))
    assert lacking(-16.1, begun=-2.0) is None


@pytest.mark.parametrize(("loss", "lost"), [(-0.2, False), (-0.05, True), (0.5, True)])
def test_a_repair_ends_no_worse_than_the_run_was_before_it_failed(loss, lost):
    """A loss that falls below 0 is measured by what the run had gained."""
    found = lacking(loss, reached=-0.29)
    assert (found is not None) is lost
    assert not lost or "worse than the run was before it failed" in str(found)


def test_what_a_run_had_reached_is_known_apart_from_noise():
    assert holds(1.09, 1.0) and not holds(1.11, 1.0)
    assert holds(1e-3, 1e-4, unlearned=0.7) and not holds(0.2, 1e-4, unlearned=0.7)
    assert holds(5.0, math.inf) and holds(5.0, math.inf, unlearned=1.0)
    assert holds(-2e5, -7.8e24, unlearned=1.6)  # nothing bounds such a loss from below
    assert not holds(0.5, -0.3, unlearned=1.6)


def test_no_output_may_be_given_up():
    assert lacking(2.0, {"a_loss": 1.0, "b_loss": 1.0}, TWO) is None
    assert "(b_loss 2.5, that of a constant 2)" in str(
        lacking(2.0, {"a_loss": 0.1, "b_loss": 2.5}, TWO)
    )


def test_every_metric_getting_worse_is_no_repair():
    figures = {"loss": 0.5, "accuracy": 0.3}
    assert "accuracy 0.5 to 0.3" in str(lacking(0.5, figures))
    assert lacking(0.5, {**figures, "accuracy": 0.6}) is None
    assert lacking(0.5, {**figures, "accuracy": 0.48}) is None  # a row or two of the few there are
    assert lacking(0.5, {"loss": 0.5, "of my own": 0.0}) is None


def test_directions_are_those_of_keras_metrics():
    names = ("loss", "a_loss", "accuracy", "auc", "mae", "mean_squared_error", "of my own")
    assert directions(names) == {
        "accuracy": "max",
        "auc": "max",
        "mae": "min",
        "mean_squared_error": "min",
    }


def test_figures_that_are_not_finite_tell_nothing_of_a_metric():
    before = Baselines(figures={"accuracy": np.nan})
    assert lacking(0.5, {"accuracy": 0.1}, before) is None


@pytest.mark.parametrize(
    ("dealt", "alike", "vain"),
    [
        ([1.0, 1.00001], [0.7, 1.3], True),  # the same for all rows
        ([0.9, 1.105], [0.7, 1.3], True),  # by chance
        ([0.9, 1.2], [0.7, 1.3], False),  # on average worse
        ([0.8, 1.1], [0.7, 1.3], True),
        ([1.2, 1.4], [0.7, 1.3], False),
        ([1.0, 1.0], [1.0, 1.0], False),  # the loss does not look at the targets
        ([math.nan, math.nan], [0.7, 1.3], False),
        ([], [], False),
    ],
)
def test_a_model_has_to_do_better_with_the_targets_of_its_own_rows(dealt, alike, vain):
    assert same_for_all(1.0, dealt, alike) is vain


@pytest.mark.parametrize(
    ("loss", "before", "alike", "dealt", "lost"),
    [
        (1.0, 0.9, [0.8, 1.0], [1.0, 1.0], True),
        (0.5, 0.9, [0.8, 1.0], [0.5, 0.5], False),  # a constant, but learned
        (1.0, 0.9, [0.8, 1.0], [1.4, 1.6], False),  # as good as it was before, row by row
        (1.0, 0.0, [0.0, 0.0], [1.0, 1.0], False),  # a penalty: it does not look at the targets
        (0.0, 0.2, [0.2, 0.2], [0.0, 0.0], False),
        (1.0, math.nan, [0.8, 1.0], [1.0, 1.0], False),
        (1.0, 0.9, [], [], False),  # rows are few, or no arrays
    ],
)
def test_each_output_has_to_learn_of_the_targets_its_loss_looks_at(
    loss, before, alike, dealt, lost
):
    def figures(each):
        return {"loss": 7.0, "box_loss": each}

    begun = Begun(7.0, figures(before), [figures(each) for each in alike])
    others = [figures(each) for each in dealt]
    said = unlearned(figures(loss), begun, others, ["box_loss", "absent_loss"])
    assert (said is not None and "box_loss" in said) is lost


@pytest.mark.parametrize(("loss", "lost"), [(16.1, True), (15.9, False), (math.nan, False)])
def test_an_output_whose_loss_is_what_it_was_has_learned_nothing(loss, lost):
    begun = Begun(20.0, {"loss": 20.0, "box_loss": 16.1})
    said = untouched({"loss": 18.0, "box_loss": loss}, begun, ["box_loss", "absent_loss"])
    assert (said is not None and "box_loss" in said) is lost


def test_gradients_that_no_row_reaches_are_the_same_number_for_number():
    penalty = [np.ones((2, 2)), np.zeros(2)]
    assert the_same(penalty, [each.copy() for each in penalty])
    assert not the_same(penalty, [np.ones((2, 2)), np.array([0.0, 1e-9])])
    assert not the_same(penalty, [np.full((2, 2), np.nan), np.zeros(2)])
    assert not the_same(penalty, penalty[:1])


@pytest.mark.parametrize(
    ("after", "begun", "short"),
    [
        (0.93, 0.95, True),  # of which the mean reaches 0.9
        (0.91, 0.95, False),
        (0.93, 1.5, False),  # most of what there is
        (0.95, math.nan, True),
        (0.93, math.nan, False),
        (0.93, 0.8, False),
        (0.97, 0.8, True),
    ],
)
def test_an_output_has_to_come_near_the_mean_of_its_targets(after, begun, short):
    untrained = Begun(figures={"box_loss": begun})
    found = short_of_the_mean({"box_loss": after}, {"box_loss": 0.9}, untrained)
    assert bool(found) is short
    if short:
        assert found.startswith("one output is worse than always predicting the mean")


@pytest.mark.parametrize(("loss", "lacks"), [(0.72, False), (0.95, True)])
def test_what_has_overfitted_may_be_above_the_untrained_model(loss, lacks):
    baselines = Baselines(untrained=0.69, constant=0.69, overfitted=0.9)
    found = shortfall(loss, {}, baselines, begun=0.69, directions={})
    assert (found is not None) is lacks
