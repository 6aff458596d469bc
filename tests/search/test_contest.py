"""Rivals over more steps: who is in front half way need not end best."""

import math

from nanfix.remedies.fix import Edit, Fix
from nanfix.remedies.strategy import Tier
from nanfix.report.trial import TrialRecord
from nanfix.search._contest import Contest, rivals
from nanfix.search._proof import Longer
from nanfix.search.candidates import Family
from nanfix.search.search import Found

CLIP, MILD, BOLD, SLOW = ((("clip", 0),), (("adam", 0),), (("adam", 1),), (("rate", 0),))
HALF_WAY = {CLIP: 0.4, MILD: 0.45, BOLD: 0.6, SLOW: 0.9}
FAMILIES = (
    Family("clip", Tier.OPTIMIZER, 1),
    Family("adam", Tier.OPTIMIZER, 2),
    Family("rate", Tier.OPTIMIZER, 1),
)


def fix(candidate):
    return Fix(tuple(Edit(name, {"level": level}) for name, level in candidate))


FOUND = Found({candidate: fix(candidate) for candidate in HALF_WAY}, HALF_WAY, ())


def ranked(ends, made=None, *, deadline=math.inf):
    """Rank what was found where longer probes end as told, by seed or in any; note them."""
    by_digest = {fix(candidate).digest: losses for candidate, losses in ends.items()}

    def judged(fix, seed, horizon):
        losses = by_digest[fix.digest]
        loss = losses[seed - 1] if isinstance(losses, tuple) else losses
        if made is not None:
            made.append(fix)
        return TrialRecord(fix.edits, "", 200, loss, "non-finite" if loss is None else "works", 0.0)

    contest = Contest(Longer(judged), FAMILIES, baseline=1.0)
    return list(contest.ranked(FOUND, 0.0, deadline)), contest


def test_who_ends_best_is_in_front():
    order, _ = ranked({CLIP: 0.35, MILD: 0.3, BOLD: 0.1})
    assert order == [BOLD, MILD, CLIP, SLOW]


def test_who_fails_over_more_steps_is_proved_last():
    order, _ = ranked({CLIP: None, MILD: 0.3, BOLD: 0.9})
    assert order == [MILD, BOLD, SLOW, CLIP]


def test_each_rival_is_trained_once():
    made = []
    _, contest = ranked({CLIP: 0.35, MILD: 0.3, BOLD: 0.1}, made)
    contest.ranked(FOUND, 0.0, math.inf)
    assert made == [fix(CLIP), fix(MILD), fix(BOLD)]


def test_after_the_deadline_the_trials_decide():
    made = []
    order, _ = ranked({}, made, deadline=-math.inf)
    assert order == list(FOUND.fixes) and made == []


def test_one_that_learns_far_faster_has_no_rival():
    assert rivals({CLIP: 0.1, SLOW: 0.8}, CLIP, 1.0) == []


def test_who_was_lucky_falls_back_by_another_seed():
    order, contest = ranked({CLIP: (0.1, 0.9), MILD: (0.3, 0.3), BOLD: (0.6, 0.6)})
    assert order[0] == CLIP
    contest._longer(fix(CLIP), 2)  # as its proof does
    assert next(iter(contest.ranked(FOUND, 0.0, math.inf))) == MILD


def test_a_larger_change_has_to_be_better_with_both_seeds():
    both = (*CLIP, *SLOW)
    found = Found({c: fix(c) for c in (CLIP, both)}, {CLIP: 0.4, both: 0.39}, ())

    def first(larger):
        losses = {fix(CLIP).digest: (0.4, 0.36), fix(both).digest: larger}

        def judged(fix, seed, horizon):
            return TrialRecord(fix.edits, "", 200, losses[fix.digest][seed - 1], "works", 0.0)

        return next(iter(Contest(Longer(judged), FAMILIES, 1.0).ranked(found, 0.0, math.inf)))

    assert first((0.33, 0.38)) == CLIP
    assert first((0.2, 0.21)) == both


def test_any_may_end_best_where_no_baseline_is_known():
    assert rivals(HALF_WAY, CLIP, math.inf) == [CLIP, MILD, BOLD]
