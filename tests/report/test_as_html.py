"""A report as a notebook shows it."""

from html.parser import HTMLParser

from nanfix.records.cause import Cause
from nanfix.records.diagnosis import Diagnosis, Finding, Onset, Phase, Place
from nanfix.remedies.fix import Edit, Fix
from nanfix.report.report import Outcome, Report

DIAGNOSIS = Diagnosis(
    Onset(2, 3),
    (
        Finding(Cause.UNSCALED_INPUT, 0.9, "58 > 1 & rising"),
        Finding(Cause.UNSCALED_TARGET, 0.8, "of 3e5"),
        Finding(Cause.LEARNING_RATE, 0.1, "as likely as not"),
    ),
    place=Place(Phase.LOSS, layer="<script>alert(1)</script>", operation="Square"),
    together=2,
)
FIX = Fix((Edit("lower-learning-rate", {"learning_rate": 0.001}),))


class Page(HTMLParser):
    """What a browser makes of HTML: its tags, each closed in turn, and its text."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.open, self.text = [], [], ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def shown(outcome, **more):
    report = Report(outcome, None, {}, [], {}, **more)  # type: ignore[arg-type]
    page = Page(report._repr_html_())
    assert page.open == []
    return page


def test_a_repaired_run_shows_what_happened_the_causes_the_fix_and_how_to_apply_it():
    page = shown(Outcome.REPAIRED, diagnosis=DIAGNOSIS, fix=FIX, notes=("<b>a note</b>",))
    assert "nanfix: REPAIRED. The run failed and was repaired" in page.text
    assert "What happened: Training became non-finite at epoch 2 step 3" in page.text
    assert "Cause: the inputs are far from unit scale (58 > 1 & rising)." in page.text
    assert "And also: the targets are far from unit scale (of 3e5)." in page.text
    assert str(FIX) in page.text
    assert 'fix=nanfix.read_fix("out/fix.json")' in page.text
    assert page.tags.count("details") == 2 and "<b>a note</b>" in page.text


def test_what_the_user_named_stays_text():
    page = shown(Outcome.EXHAUSTED, diagnosis=DIAGNOSIS)
    assert "layer <script>alert(1)</script>" in page.text and "script" not in page.tags


def test_without_a_fix_it_says_what_helps():
    page = shown(Outcome.EXHAUSTED, diagnosis=DIAGNOSIS)
    assert DIAGNOSIS.advice in page.text and "How to apply" not in page.text


def test_a_healthy_run_takes_a_line():
    page = shown(Outcome.HEALTHY)
    assert page.text == "nanfix: HEALTHY. Training stayed finite; nothing was changed."
