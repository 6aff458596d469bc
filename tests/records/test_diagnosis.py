"""The table of causes: each has all its parts, and a short name that nothing else has."""

import pickle
import re

import pytest

from nanfix.records.cause import Cause


@pytest.mark.parametrize("cause", Cause, ids=lambda cause: cause.value)
def test_cause_has_a_short_name_a_sentence_a_symptom_and_a_remedy(cause):
    assert re.fullmatch(
        "[a-z]+(-[a-z]+)*", cause.value
    ) and cause.value == cause.name.lower().replace("_", "-")
    assert cause.sentence[0].islower() and not cause.sentence.endswith(".")
    assert cause.symptom and "|" not in cause.symptom and "\n" not in cause.symptom
    assert cause.remedy[0].isupper() and cause.remedy.endswith(".")


def test_no_two_causes_say_the_same():
    for part in ("sentence", "symptom", "remedy"):
        assert len({getattr(cause, part) for cause in Cause}) == len(Cause)


def test_cause_is_found_by_its_short_name_and_nothing_of_its_prose_is_stored():
    assert Cause("unscaled-input") is Cause.UNSCALED_INPUT
    stored = pickle.dumps(Cause.UNSCALED_INPUT)
    assert (
        pickle.loads(stored) is Cause.UNSCALED_INPUT
        and Cause.UNSCALED_INPUT.sentence.encode() not in stored
    )
