"""A share of the time is kept to."""

from nanfix.recorder._pace import Pace


def test_pace_keeps_to_its_share():
    pace = Pace(0.01)
    assert pace.due(100.0)
    pace.done(0.5, 100.0)  # seconds, at a time
    assert not pace.due(149.0)
    assert pace.due(150.1)


def test_short_first_time_is_not_held_against_the_second():
    pace = Pace(0.01)
    pace.done(0.001, 100.0)
    assert pace.due(100.0)
    pace.done(0.001, 100.0)
    assert not pace.due(100.05)
