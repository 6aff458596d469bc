"""What a diagnosis says of causes that are at fault together."""

import pytest

from nanfix.records.cause import Cause
from nanfix.records.diagnosis import Diagnosis, Finding, Onset, Phase, Place
from nanfix.records.unsafe_operations import DIFFERENCES, SHARES_OF_EXPONENTIALS

FINDINGS = (
    Finding(Cause.UNSCALED_TARGET, 0.95, "a"),
    Finding(Cause.UNSCALED_INPUT, 0.94, "b"),
    Finding(Cause.LEARNING_RATE, 0.8, "c"),
)


def test_causes_that_are_at_fault_together_are_named_and_treated_together():
    told = str(Diagnosis(Onset(1, 2), FINDINGS, together=2)).splitlines()
    assert told[1].startswith("Cause: the targets") and told[2].startswith("And also: the inp")
    assert [line for line in told if line.startswith("Also")] == [
        f"Also possible: {Cause.LEARNING_RATE.sentence} (c)."
    ]
    helps = f"What helps: {Cause.UNSCALED_TARGET.remedy} {Cause.UNSCALED_INPUT.remedy}"
    assert told[-1] == helps


def test_a_single_cause_is_all_that_is_told_of_as_one():
    told = str(Diagnosis(Onset(1, 2), FINDINGS))
    assert "And also" not in told and told.count("Also possible") == 2


def test_the_same_evidence_is_told_once():
    findings = (
        Finding(Cause.POISON_BATCH, 0.95, "made batch by batch, and in this one 3 NaN"),
        Finding(Cause.NONFINITE_INPUT, 0.9, "3 NaN"),
        Finding(Cause.LEARNING_RATE, 0.5, "the first step is large"),
    )
    told = str(Diagnosis(Onset(1, 1), findings))
    assert told.count("3 NaN") == 1 and told.count("Also possible") == 1


@pytest.mark.parametrize(
    ("operation", "words"),
    [
        ("Log", "Keep x in ops.log(x) above 0, or"),
        ("Cosh", "Keep x in ops.cosh(x) within limits, or"),
        ("RealDiv", "Keep b in a / b away from zero, or"),
        ("Pow", "Keep x in ops.power(x, y) where its exponent allows, or"),
        ("Einsum", Cause.LOSS_DOMAIN.remedy),
    ],
)
def test_what_helps_is_said_of_the_operation_that_failed(operation, words):
    finding = Finding(Cause.LOSS_DOMAIN, 0.9, "a")
    place = Place(Phase.LOSS, operation=operation)
    assert f"What helps: {words}" in str(Diagnosis(Onset(1, 1), (finding,), place))


@pytest.mark.parametrize(
    ("formula", "words"),
    [
        (SHARES_OF_EXPONENTIALS, "the quotient as ops.softmax(x), ops.sigmoid(x) or a *"),
        (DIFFERENCES, "as ops.var(x), or"),
    ],
)
def test_what_helps_is_the_stable_form_of_the_formula(formula, words):
    finding = Finding(Cause.LAYER_DOMAIN, 0.9, "a")
    place = Place(Phase.FORWARD, operation="RealDiv", formula=formula)
    told = str(Diagnosis(Onset(1, 1), (finding,), place))
    assert "Keep b in a / b away from zero, or compute" in told and words in told


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("return -10 * ops.log10(mse)", "ops.log10(x)"),
        ("return tf.experimental.numpy.log2(p)", "ops.log2(x)"),
        ("return ops.log10(a) + ops.log(b)", "ops.log(x)"),
        ("return tf.math.log(p)", "ops.log(x)"),
    ],
)
def test_a_logarithm_is_said_to_the_base_that_stands_in_the_line(line, words):
    finding = Finding(Cause.LOSS_DOMAIN, 0.9, "a")
    place = Place(Phase.LOSS, operation="Log", code=f"net.loss: {line}")
    told = str(Diagnosis(Onset(1, 1), (finding,), place))
    assert f"What helps: Keep x in {words} above 0, or" in told


def test_a_batch_of_a_single_row_is_named_where_an_operation_fails():
    finding = Finding(Cause.LAYER_DOMAIN, 0.9, "a")
    told = [str(Diagnosis(Onset(1, 1), (finding,), batch_rows=rows)) for rows in (1, 2)]
    assert ["single row" in words for words in told] == [True, False]


def test_what_helps_names_the_factor_that_was_infinite():
    finding, given = Finding(Cause.LAYER_DOMAIN, 0.9, "a"), (("self.weights", "infinite"),)
    place = Place(Phase.FORWARD, operation="Mul by infinity", given=given)
    told = str(Diagnosis(Onset(1, 1), (finding,), place))
    assert "What helps: Keep self.weights finite." in told


def test_what_helps_in_two_places_alike_is_said_once():
    finding = Finding(Cause.LAYER_DOMAIN, 0.9, "a")
    first, second = (
        Place(Phase.FORWARD, operation="RealDiv", source=f"net.py:{line}") for line in (3, 5)
    )
    told = str(Diagnosis(Onset(1, 1), (finding,), first, behind=second))
    assert told.count("away from zero") == 1
