"""What a search tries, as a terminal shows it and as the log has it elsewhere."""

import io
import logging
import re
import time

import pytest
from rich.console import Console

from nanfix.remedies.fix import Edit, Fix
from nanfix.report.trial import TrialRecord
from nanfix.search import _progress
from nanfix.search._progress import Progress

LOWER = Edit("lower-learning-rate", {"learning_rate": 0.001})
CLIP = Edit("clip-gradients", {"global_clipnorm": 2.5})


def shown(console, *, shown=True):
    with Progress(shown=shown, console=console) as progress:
        progress.begun("0", Fix((LOWER,)))
        progress.ended("0", TrialRecord((LOWER,), "initial weights", 12, None, "non-finite", 0.25))
        progress.begun("1", Fix((LOWER, CLIP)))
        progress.ended("1", TrialRecord((LOWER, CLIP), "epoch 2", 40, 0.5, "works", 1.5))
        progress.begun("2", Fix((CLIP,)))
    return console.file.getvalue()


def test_each_trial_is_a_line_with_what_came_of_it():
    text = shown(Console(file=io.StringIO(), force_terminal=True, width=150))
    assert (
        "lower-learning-rate (learning_rate 0.001) + clip-gradients (global_clipnorm 2.5)" in text
    )
    for told in ("initial weights", "12", "non-finite", "epoch 2", "works", "0.5", "running"):
        assert told in text


def test_nothing_is_written_off_a_terminal_or_to_who_wants_quiet():
    assert shown(Console(file=io.StringIO(), force_terminal=False)) == ""
    assert shown(Console(file=io.StringIO(), force_terminal=True), shown=False) == ""


def test_a_search_with_nothing_left_to_try_leaves_no_table_behind():
    console = Console(file=io.StringIO(), force_terminal=True, width=150)
    with Progress(shown=True, console=console):
        pass
    erased = console.file.getvalue().rpartition("val. loss")[2]
    assert "\x1b[1A\x1b[2K" in erased  # each line of it is taken back


@pytest.fixture
def hurried(monkeypatch):
    """Lines are due after hundredths of a second, and seconds are long."""
    monkeypatch.setattr(_progress, "EVERY", 0.03)
    monkeypatch.setattr(_progress, "LONG", 0.2)


def told(caplog, progress, seconds):
    """Return the lines of a search that first has tried one fix, then chooses the next, then proves
    it, `seconds` each.
    """
    caplog.set_level(logging.INFO, "nanfix")
    with progress:
        progress.begun("0", Fix((LOWER,)))
        progress.ended("0", TrialRecord((LOWER,), "initial weights", 12, 0.5, "works", 0.25))
        time.sleep(seconds)
        progress.begun("1", Fix((CLIP,)))
        time.sleep(seconds)
    with progress:
        progress.proving(Fix((LOWER,)))
        time.sleep(seconds)
    return [(record.levelname, record.message) for record in caplog.records]


def test_off_a_terminal_lines_tell_what_is_tried_and_for_how_long(caplog, hurried):
    console = Console(file=io.StringIO(), force_terminal=False)
    lines = told(caplog, Progress(shown=True, console=console), 0.5)
    assert {level for level, _ in lines} == {"WARNING"}
    assert lines[0][1] == "nanfix: search for a fix, 0 s: 1 tried, 1 work."
    clipped = "clip-gradients (global_clipnorm 2.5)"
    assert any(f"1 tried, 1 work; now {clipped}, 0 s." in line for _, line in lines)
    # Half a second each, and more where others use the machine.
    assert re.search(r"[1-9] s: 1 tried, .* now proof of lower-learning-rate", lines[-1][1])
    assert 4 <= len(lines) <= 12  # later and later: at hundredths 3, 6, 12, 24, then every 20


def test_who_wants_quiet_is_told_of_a_long_search_alone(caplog, hurried):
    terminal = Console(file=io.StringIO(), force_terminal=True)
    lines = told(caplog, Progress(shown=False, console=terminal), 0.5)
    levels = [level for level, _ in lines]
    assert levels == sorted(levels) and {*levels} == {"INFO", "WARNING"}
    assert terminal.file.getvalue() == ""


def test_a_short_search_has_no_line(caplog):
    assert told(caplog, Progress(shown=True, console=Console(file=io.StringIO())), 0.0) == []
