"""A report as a notebook shows it: HTML that needs nothing else, in the colors of the page."""

from collections.abc import Iterator
from html import escape
from typing import TYPE_CHECKING

from nanfix.report.export import by_hand

if TYPE_CHECKING:  # a report shows itself
    from nanfix.report.report import Report

# Of the line at the side; they stand out from a light page and from a dark one.
GOOD, BAD, OTHER = "#3a9d5d", "#d9534f", "#d98e2b"
COLORS = {"HEALTHY": GOOD, "REPAIRED": GOOD, "UNREPAIRABLE": BAD, "EXHAUSTED": BAD}
APPLIED = "The model has been trained with it. To train another one so, without a search:"
APPLY = """report.export("out")
nanfix.fit(model, X, y, fix=nanfix.read_fix("out/fix.json"))"""


def as_html(report: "Report") -> str:
    """Return what happened, why, the fix and how to apply it; all that the report says is folded
    away below.
    """
    outcome, text = report.outcome, str(report)
    parts = [f"<p><b>nanfix: {escape(outcome.name)}.</b> {escape(outcome.value)}</p>"]
    parts += _diagnosis(report)
    parts += _fix(report)
    if text != f"{outcome.name}: {outcome.value}":
        parts.append(_folded("The whole report", text))
    color = COLORS.get(outcome.name, OTHER)
    style = f"border-left: 0.25em solid {color}; padding-left: 0.75em; max-width: 60em"
    return f'<div style="{style}">{"".join(parts)}</div>'


def _diagnosis(report: "Report") -> Iterator[str]:
    diagnosis = report.diagnosis
    if diagnosis is None:
        return
    yield f"<p><b>What happened:</b> {escape(diagnosis.happened)}</p>"
    for number, finding in enumerate(diagnosis.findings[: diagnosis.together]):
        name, cause = "And also" if number else "Cause", finding.cause.sentence
        yield f"<p><b>{name}:</b> {escape(f'{cause} ({finding.evidence})')}.</p>"
    if not report.fix:
        yield f"<p>{escape(diagnosis.advice)}</p>"


def _fix(report: "Report") -> Iterator[str]:
    if not report.fix:
        return
    edits = "".join(f"<li>{escape(str(edit))}</li>" for edit in report.fix.edits)
    yield f"<p><b>Fix:</b></p><ul>{edits}</ul>"
    yield f"<p><b>How to apply it:</b> {APPLIED}</p>{_code(APPLY)}"
    yield _folded("The same by hand, without nanfix", "\n".join(by_hand(report.fix)))


def _folded(title: str, text: str) -> str:
    return f"<details><summary>{escape(title)}</summary>{_code(text)}</details>"


def _code(text: str) -> str:
    # Pages have colors of their own for this, which need not go with those of a dark theme.
    style = "white-space: pre-wrap; color: inherit; background: none"
    return f'<pre style="{style}">{escape(text)}</pre>'
