"""The ladder, on imagined losses: order, stopping, pruning."""

import math
from dataclasses import replace

from nanfix.search.candidates import Family, Tried
from nanfix.search.choice import choose
from nanfix.search.ladder import ladder

RATE = Family("rate", 2, 4)
CLIP = Family("clip", 2, 2)
INPUTS = Family("inputs", 3, 1, called_for=True)
TARGETS = Family("targets", 3, 1, called_for=True)


def climb(families, loss, baseline=math.inf, steps=lambda candidate: 0):
    """Walk a ladder with `loss` and `steps` of a candidate as judges; return what was
    tried, in order.
    """
    tried = {}
    walk = ladder(families, baseline)
    try:
        candidate = next(walk)
        while True:
            tried[candidate] = Tried(loss(dict(candidate)), steps(dict(candidate)))
            candidate = walk.send(tried[candidate])
    except StopIteration:
        return tried


def test_nothing_is_tried_twice():
    tried = climb((RATE, CLIP, INPUTS, TARGETS), lambda c: None)
    assert len(tried) == len(set(tried))


def test_mild_levels_come_first_and_climbing_ends_when_stronger_is_no_better():
    losses = {0: None, 1: 5.0, 2: 6.0, 3: 7.0}
    tried = list(climb((RATE,), lambda c: losses[c["rate"]]))
    assert tried == [(("rate", 0),), (("rate", 1),), (("rate", 2),)]


def test_combination_is_tried_though_no_single_one_holds():
    tried = climb((INPUTS, TARGETS), lambda c: 1.0 if len(c) == 2 else None)
    best, *_ = choose(tried, (INPUTS, TARGETS))
    assert {name for name, _ in best} == {"inputs", "targets"}


def test_what_weak_evidence_points_to_is_tried_only_when_the_rest_does_not_learn_well():
    weak = Family("weak", 2, 1, indicated=False)
    assert (("weak", 0),) not in climb((CLIP, weak), lambda c: 1.0, baseline=10.0)
    assert (("weak", 0),) in climb((CLIP, weak), lambda c: 9.0, baseline=10.0)


def test_superfluous_edits_are_pruned():
    families = (RATE, INPUTS, TARGETS)
    tried = climb(families, lambda c: 1.0 if "inputs" in c else None)
    assert choose(tried, families)[0] == (("inputs", 0),)


def test_what_is_left_is_made_milder_as_far_as_that_is_as_good():
    """The stronger level was the better one beside an edit that is not needed."""
    scaler = Family("scaler", 3, 3, called_for=True)
    families = (CLIP, scaler, TARGETS)

    def loss(candidate):
        if not {"scaler", "targets"} <= {*candidate}:
            return None
        clipped, plain = {0: 0.4, 1: 0.12, 2: 0.1}, {0: 0.5, 1: 0.112, 2: 0.105}
        return (clipped if "clip" in candidate else plain)[candidate["scaler"]]

    tried = climb(families, loss, baseline=1.0)
    assert choose(tried, families, baseline=1.0)[0] == (("scaler", 1), ("targets", 0))


def test_smaller_change_wins_among_equals_and_better_loss_among_unequals():
    small, large = (("inputs", 0),), (("inputs", 0), ("targets", 0))
    assert choose({small: Tried(1.04), large: Tried(1.0)}, (INPUTS, TARGETS))[0] == small
    assert choose({small: Tried(1.50), large: Tried(1.0)}, (INPUTS, TARGETS))[0] == large
    assert choose({small: Tried(None)}, (INPUTS, TARGETS)) == []


def test_what_other_seeds_make_of_a_loss_counts_as_equal_too_but_not_a_tenth_of_the_gain():
    small, large = (("inputs", 0),), (("inputs", 0), ("targets", 0))
    tried = {small: Tried(0.14), large: Tried(0.1)}
    families = (INPUTS, TARGETS)
    assert choose(tried, families, baseline=1.0)[0] == large
    assert choose(tried, families, baseline=1.0, noise=0.05)[0] == small
    worse = {**tried, small: Tried(0.3)}
    assert choose(worse, families, baseline=1.0, noise=0.5)[0] == large


def test_the_milder_level_wins_among_equals_save_for_knobs_of_the_optimizer():
    scaler = Family("scaler", 3, 3)
    plain, power = (("scaler", 1),), (("scaler", 2),)
    assert choose({power: Tried(1.0), plain: Tried(1.04)}, (scaler,))[0] == plain
    assert choose({power: Tried(1.0), plain: Tried(1.50)}, (scaler,))[0] == power
    fast, slow = (("rate", 0),), (("rate", 3),)
    assert choose({slow: Tried(1.0), fast: Tried(1.04)}, (RATE,))[0] == slow


def test_walk_fed_with_old_results_goes_on_where_it_stood():
    losses = {0: None, 1: 5.0, 2: 6.0, 3: 7.0}
    whole = list(climb((RATE, CLIP), lambda c: losses[c.get("rate", 0)] if "rate" in c else 9.0))
    known = set(whole[:2])
    rest = [
        c
        for c in climb((RATE, CLIP), lambda c: losses[c.get("rate", 0)] if "rate" in c else 9.0)
        if c not in known
    ]
    assert rest == whole[2:]


FILL, DROP = Family("fill", 1, 1, called_for=True), Family("drop", 1, 1)


def test_a_called_for_change_to_the_data_is_in_every_candidate():
    families = (FILL, DROP, RATE, INPUTS)
    tried = climb(families, lambda c: 1.0 if "inputs" in c else None)
    assert next(iter(tried)) == (("fill", 0),)
    assert all(candidate[0] == ("fill", 0) for candidate in tried)
    assert choose(tried, families)[0] == (("fill", 0), ("inputs", 0))


def test_a_called_for_change_to_the_data_that_holds_alone_is_enough():
    assert list(climb((FILL, DROP, RATE, INPUTS), lambda c: 5.0 - len(c))) == [(("fill", 0),)]


def test_another_change_to_the_data_is_tried_when_nothing_holds_with_the_first():
    families = (FILL, DROP, RATE)
    tried = climb(
        families, lambda c: 1.0 if "drop" in c else None, steps=lambda c: c.get("rate", 0)
    )
    assert list(tried)[:6] == [
        (("fill", 0),),
        *((("fill", 0), ("rate", level)) for level in range(4)),
        (("drop", 0),),
    ]
    assert choose(tried, families)[0] == (("drop", 0),)
    assert all({"fill", "drop"} & set(dict(candidate)) for candidate in tried)


def test_two_called_for_changes_to_the_data_are_combined_and_pruned():
    families = (FILL, Family("drop", 1, 1, called_for=True))
    assert next(iter(climb(families, lambda c: 1.0))) == (("fill", 0), ("drop", 0))
    assert choose(climb(families, lambda c: 1.0), families)[0] == (("fill", 0),)
    assert (("drop", 0),) not in climb(families, lambda c: 1.0)


def test_levels_that_change_nothing_are_passed_over():
    tried = list(climb((Family("clip", 2, 4),), lambda c: None))
    assert tried == [(("clip", 0),), (("clip", 1),), (("clip", 3),)]


def test_levels_that_move_the_onset_are_climbed_one_by_one():
    tried = list(climb((Family("clip", 2, 4),), lambda c: None, steps=lambda c: c["clip"]))
    assert [level for ((_, level),) in tried] == [0, 1, 2, 3]


def test_what_moved_the_onset_latest_is_combined_first():
    families = [Family(name, 2, 1) for name in ("a", "b", "c")]
    tried = list(
        climb(
            families,
            lambda c: 1.0 if len(c) == 2 else None,
            steps=lambda c: {"a": 3, "b": 50, "c": 40}[next(iter(c))],
        )
    )
    assert {name for name, _ in tried[3]} == {"b", "c"}


def test_where_a_single_edit_leaves_nothing_to_gain_no_larger_change_is_tried():
    tried = list(
        climb((CLIP, INPUTS, TARGETS), lambda c: 0.01 if "inputs" in c else None, baseline=1.0)
    )
    assert tried[-1] == (("inputs", 0),)
    assert len(
        climb((CLIP, INPUTS, TARGETS), lambda c: 0.05 if "inputs" in c else None, baseline=1.0)
    ) > len(tried)


def test_where_several_together_learn_well_none_is_tried_alone():
    families = (CLIP, RATE, INPUTS, TARGETS)

    def loss(candidate):
        return 0.1 if {"inputs", "targets"} <= {*candidate} else None

    tried = list(climb(families, loss, baseline=1.0))
    assert tried[0] == (("inputs", 0), ("targets", 0)) and (("clip", 0),) not in tried
    assert tried[-2:] == [(("inputs", 0),), (("targets", 0),)]  # as edits are taken away
    tried = list(climb(families, lambda c: 0.9 if len(c) > 1 else None, baseline=1.0))
    assert (("clip", 0),) in tried


def test_that_with_which_a_rerun_learned_comes_first_and_no_knob_is_climbed_where_it_does():
    scaler = Family("scaler", 3, 2, called_for=True, cures=True)
    families = (CLIP, RATE, scaler)

    def loss(candidate):
        return 0.1 if "scaler" in candidate else None

    tried = list(climb(families, loss, baseline=1.0))
    assert tried[0] == (("scaler", 0),)
    assert not {(("clip", 0),), (("rate", 0),)} & {*tried}
    # It only stays finite: then the knobs are climbed as where no rerun learned.
    tried = list(climb(families, lambda c: 0.9 if "scaler" in c else None, baseline=1.0))
    assert tried[0] == (("scaler", 0),) and (("clip", 1),) in tried and (("rate", 3),) in tried


def test_the_only_one_with_which_a_rerun_learned_stands_for_all_where_it_does_as_well():
    """Whatever else the evidence calls for, and also where no loss to compare with is known."""
    scaler = Family("scaler", 3, 1, called_for=True, cures=True)
    families, both = (CLIP, scaler, TARGETS), (("scaler", 0), ("targets", 0))
    for baseline in (1.0, math.inf):
        tried = list(climb(families, lambda c: 0.1 if "scaler" in c else None, baseline))
        assert tried[:3] == [(("scaler", 0),), both, (("scaler", 0), ("clip", 0))]
        assert (*both, ("clip", 0)) not in tried and (("clip", 0),) not in tried
        tried = climb(families, lambda c: 0.1 if len(c) > 1 else 0.2, baseline)
        assert (*both, ("clip", 0)) in tried and choose(tried, families, baseline)[0] == both


def test_where_the_failing_operation_is_computed_otherwise_nothing_else_is_tried():
    """However little it has learned by then: nothing else was at fault."""
    guard = Family("guard", 4, 3, called_for=True, mends=True)
    form = replace(guard, strategy="form", levels=1)
    mild, strong = (("guard", 0),), (("guard", 1),)
    assert [*climb((RATE, guard), lambda c: 9.0, baseline=10.0)] == [mild, strong]
    # A stronger level may do better, and is gone on with.
    tried = climb((RATE, guard), lambda c: 9.0 - 4.0 * c["guard"], baseline=10.0)
    assert [*tried] == [mild, strong, (("guard", 2),)]
    # Two ways to do so: each alone, and the better one on top of what else is called for.
    tried = climb((RATE, guard, form, INPUTS), lambda c: 8.0 if "form" in c else 9.0, 10.0)
    assert [*tried] == [mild, strong, (("form", 0),), (("form", 0), ("inputs", 0))]
    # One that stands for the other is tried in its place.
    better = replace(form, instead_of=frozenset({"guard"}))
    assert [*climb((RATE, guard, better), lambda c: 9.0, 10.0)] == [(("form", 0),)]
    # It does not hold, or more does better: all as ever.
    assert (("rate", 1),) in climb((RATE, guard), lambda c: None if "guard" in c else 9.0, 10.0)
    tried = climb((RATE, guard, INPUTS), lambda c: 5.0 if "inputs" in c else 9.0, 10.0)
    assert (("guard", 0), ("inputs", 0), ("rate", 0)) in tried


def test_a_knob_with_which_a_rerun_learned_too_is_tried_once_in_the_place_of_more():
    scaler, rate = Family("scaler", 3, 2, called_for=True, cures=True), replace(RATE, cures=True)
    families = (CLIP, rate, scaler)
    tried = climb(families, lambda c: 0.1, baseline=1.0)
    assert [c for c in tried if "scaler" not in dict(c)] == [(("rate", 0),)]
    assert choose(tried, families, baseline=1.0)[0] == (("rate", 0),)


def test_what_does_it_better_comes_first_though_its_loss_is_higher():
    guard, form = Family("guard", 4, 3), Family("form", 4, 1, instead_of=frozenset({"guard"}))
    capped, exact, other = (("guard", 0),), (("form", 0),), (("rate", 1),)
    tried = {capped: Tried(0.1), exact: Tried(1.0), other: Tried(3.0)}
    assert choose(tried, (guard, form, RATE)) == [exact, other, capped]
    failed = {**tried, exact: Tried(None)}
    assert choose(failed, (guard, form, RATE)) == [capped, other]


def test_what_does_it_better_is_combined_with_the_others_in_its_place():
    guard = Family("guard", 4, 3, called_for=True)
    form = Family("form", 4, 1, called_for=True, instead_of=frozenset({"guard"}))
    families = (INPUTS, guard, form)
    diverged, capped, exact = 1e7, 2.0, 2.1

    def loss(candidate):
        if "inputs" not in candidate:
            return diverged if "form" in candidate else None
        return capped if "guard" in candidate else exact if "form" in candidate else None

    tried = climb(families, loss)
    assert choose(tried, families)[0] == (("form", 0), ("inputs", 0))


def test_what_takes_much_of_the_gain_is_not_equal():
    """Where most of a loss is there whatever is learned, 4 % of it may be most of what was."""
    small, large = (("inputs", 0),), (("inputs", 0), ("targets", 0))
    tried = {small: Tried(5.9), large: Tried(5.7)}
    assert choose(tried, (INPUTS, TARGETS), baseline=6.1)[0] == large
    assert choose(tried, (INPUTS, TARGETS), baseline=50.0)[0] == small
    assert choose(tried, (INPUTS, TARGETS), baseline=5.0)[0] == small  # neither has gained


def test_a_lower_rate_with_which_a_rerun_learned_is_tried_in_the_place_of_several_changes():
    rate = Family("rate", 2, 4, cures=True)
    tried = climb((rate, INPUTS, TARGETS), lambda c: 0.05 * len(c), baseline=1.0)
    assert (("rate", 0),) in tried
    assert choose(tried, (rate, INPUTS, TARGETS), baseline=1.0)[0] == (("rate", 0),)


def test_what_is_slow_at_the_rate_of_another_scale_is_tried_at_others():
    """All that is called for learns slower than what cured, until an optimizer's knob is turned."""
    cell = Family("cell", 4, 1, called_for=True, cures=True)

    def loss(candidate):
        scaled = "inputs" in candidate and "cell" in candidate
        if "rate" in candidate:
            return 1.0 if scaled else 7.0
        return None if "cell" not in candidate else 8.0 if scaled else 6.0

    families = (RATE, INPUTS, cell)
    best = choose(climb(families, loss, baseline=10.0), families)[0]
    assert {name for name, _ in best} == {"rate", "inputs", "cell"}


def test_what_computes_the_same_numbers_is_not_taken_away_again():
    form = Family("form", 4, 1, called_for=True, mends=True, exact=True)
    losses = {("form",): 0.5, ("form", "inputs"): 0.1, ("inputs",): 0.1}
    for families, names in (
        ((INPUTS, form), {"form", "inputs"}),
        ((INPUTS, replace(form, exact=False)), {"inputs"}),
    ):
        tried = climb(families, lambda c: losses[tuple(sorted(c))], baseline=1.0)
        assert {name for name, _ in choose(tried, families, baseline=1.0)[0]} == names


def test_what_computes_the_same_numbers_is_taken_where_it_does_as_well_alone():
    form = Family("form", 4, 1, called_for=True, mends=True, exact=True)
    both, alone = (("form", 0), ("inputs", 0)), (("inputs", 0),)
    tried = {alone: Tried(0.1), both: Tried(0.1), (("form", 0),): Tried(0.1)}
    assert choose(tried, (INPUTS, form), baseline=1.0) == [(("form", 0),), both, alone]


def test_what_computes_the_same_numbers_is_added_to_what_is_best_without():
    form = Family("form", 4, 1, called_for=True, exact=True)
    scaler = Family("scaler", 3, 2, called_for=True)

    def loss(candidate):
        return {0: 0.2, 1: 0.1}[candidate["scaler"]] if "scaler" in candidate else 0.9

    tried = climb((scaler, form), loss, baseline=1.0)
    assert choose(tried, (scaler, form), baseline=1.0)[0] == (("form", 0), ("scaler", 1))
