"""The table of trials, as a terminal shows it."""

import io

from rich.console import Console

from nanfix.remedies.fix import Edit, Fix
from nanfix.report.trial import TrialRecord
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
