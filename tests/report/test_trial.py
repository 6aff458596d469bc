"""What a search has tried, in words."""

import pytest

from nanfix.remedies.fix import Edit
from nanfix.report.trial import CAME_TO, TrialRecord, instead_of, tried


def trial(verdict, *strategies, steps=1, loss=None, reason=""):
    edits = tuple(map(Edit, strategies))
    return TrialRecord(edits, "initial weights", steps, loss, verdict, 0.1, reason)


CLIP, RATE, BOTH = ("clip-gradients",), ("lower-learning-rate",), ("clip-gradients", "scale-inputs")
TOLD = {
    "nothing": ([], []),
    "one": (
        [trial("non-finite", *CLIP)],
        ["Tried: 1 candidate of clip-gradients.", "What came of it: 1 non-finite after 1 step."],
    ),
    "several": (
        [
            trial("non-finite", *CLIP, steps=3),
            trial("not learning", *RATE, loss=0.5),
            trial("non-finite", *BOTH, steps=40),
            trial("not learning", *CLIP, loss=0.75),
            trial("refused", *RATE, reason="out of memory"),
            trial("no rows left", *RATE),
            trial("works", *RATE, loss=0.1),
        ],
        [
            "Tried: 7 candidates of clip-gradients, lower-learning-rate, scale-inputs.",
            "What came of it: 1 worked in a short training, but not in a whole one; 2 finite "
            "without learning, at best a loss of 0.5 (lower-learning-rate); 2 non-finite, the "
            "latest after 40 steps (clip-gradients + scale-inputs); 1 left no rows; 1 could not be "
            "computed (out of memory).",
        ],
    ),
}


@pytest.mark.parametrize("name", TOLD)
def test_what_was_tried_and_what_came_of_it(name):
    trials, lines = TOLD[name]
    assert tried(trials) == lines


def test_every_verdict_has_its_words():
    told = {trial.verdict for trials, _ in TOLD.values() for trial in trials}
    assert set(CAME_TO) == told


WHY = "Why more than what treats that cause: in a short training "
BESIDE = {
    "no more than what treats it": ([trial("works", *RATE, loss=0.5)], RATE, ""),
    "what treats it learns less": (
        [
            trial("works", *RATE, loss=0.75),
            trial("works", *RATE, loss=0.5),
            trial("works", *BOTH, loss=0.25),
        ],
        BOTH,
        f"{WHY}lower-learning-rate alone ends at a loss of 0.5, this fix at one of 0.25.",
    ),
    "what treats it fails": (
        [trial("non-finite", *RATE, steps=12), trial("works", *BOTH, loss=0.25)],
        BOTH,
        f"{WHY}lower-learning-rate alone is non-finite after 12 steps, this fix at one of 0.25.",
    ),
    "what treats it ends lower at first": (
        [trial("works", *RATE, loss=0.25), trial("works", *BOTH, loss=0.5)],
        BOTH,
        f"{WHY}lower-learning-rate alone ends at a loss of 0.25, this fix at one of 0.5; over more "
        "steps, or with another seed, the first ended higher or failed.",
    ),
    "it was not tried": ([trial("works", *BOTH, loss=0.25)], BOTH, ""),
    "it left no rows": ([trial("no rows left", *RATE), trial("works", *BOTH, loss=1.0)], BOTH, ""),
    "the fix was known": ([], BOTH, ""),
}


@pytest.mark.parametrize("name", BESIDE)
def test_why_a_fix_does_more_than_treat_the_cause(name):
    trials, fix, words = BESIDE[name]
    said = instead_of(trials, list(map(Edit, fix)), lambda edit: edit.strategy in RATE)
    assert said == words
