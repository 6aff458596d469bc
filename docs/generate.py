"""Write docs/strategies.md from the strategies themselves, and docs/fix.schema.json:
`python docs/generate.py`.
"""

import ast
import inspect
import json
import textwrap
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path

from nanfix.records.cause import Cause
from nanfix.remedies.registry import catalogue
from nanfix.remedies.strategy import Strategy, Tier
from nanfix.report.fix_file import FixFile

PAGE = Path(__file__).with_name("strategies.md")
SCHEMA = Path(__file__).with_name("fix.schema.json")

CHANGES = {
    Tier.DATA: "The data",
    Tier.OPTIMIZER: "The optimizer",
    Tier.SCALING: "The scale of inputs or targets",
    Tier.NUMERICS: "How values are computed",
    Tier.ARCHITECTURE: "Layers or their initial weights",
}
HEAD = """# The strategies

Every remedy nanfix can apply. This page is made from the files in `strategies/` by `python docs/generate.py`.

## What do you see?

Find the line that looks like your training; `nanfix.diagnose(model, X, y)` finds it for you, with the evidence. `nanfix.fit`
tries the strategies in the last column, mild ones first and those after "else" only when nothing before them has worked, and
takes the smallest change with which the training stays finite and learns.

| what you see | cause | remedy | strategies, mildest first |
|---|---|---|---|"""  # noqa: E501


def schema() -> str:
    """Return the text of docs/fix.schema.json, the JSON Schema of a fix.json."""
    return json.dumps(FixFile.model_json_schema(), indent=2) + "\n"


def page() -> str:
    """Return the text of docs/strategies.md."""
    strategies = [
        s for s in catalogue().values() if type(s).__module__.startswith("nanfix.strategies.")
    ]
    parts = [HEAD, *(_row(cause, strategies) for cause in Cause)]
    for tier, members in groupby(strategies, key=lambda strategy: strategy.tier):
        parts.append(f"\n## {int(tier)}. {CHANGES[tier]}")
        for strategy in members:
            parts += [f"\n### {strategy.name}\n", *_section(strategy)]
    return "\n".join(parts) + "\n"


def _row(cause: Cause, strategies: list[Strategy]) -> str:
    first = _links(s for s in strategies if cause in s.treats)
    last = _links(s for s in strategies if cause in s.eases)
    remedies = "; else ".join(filter(None, (first, last))) or "none needed"
    return (
        f'| <a id="{_within_page(cause)[1:]}"></a>{cause.symptom} | {cause.sentence} | '
        f"{cause.remedy} | {remedies} |"
    )


def _within_page(cause: Cause) -> str:
    """Return the link to the line of a cause, from another place of the same page."""
    return cause.page.removeprefix(f"docs/{PAGE.name}")


def _links(strategies: Iterable[Strategy]) -> str:
    return ", ".join(f"[{s.name}](#{s.name})" for s in strategies)


def _section(strategy: Strategy) -> Iterator[str]:
    """Yield what a strategy does, when it is tried, what it changes and where it comes from."""
    text, _, reference = (
        inspect.cleandoc(type(strategy).__doc__ or "")
        .replace("**", r"\*\*")
        .partition("\n\nReference: ")
    )
    yield f"{(inspect.getmodule(type(strategy)).__doc__ or '').strip()}\n\n{text}"
    for when, causes in (
        ("tried when", strategy.treats),
        ("tried, when nothing else has worked, where", strategy.eases),
    ):
        if causes:
            yield f"\n| {when} you see | cause |\n|---|---|"
            yield from (
                f"| {cause.symptom} | [{cause.sentence}]({_within_page(cause)}) |"
                for cause in Cause
                if cause in causes
            )
    weights = (
        "weights trained so far may stay"
        if strategy.keeps_weights
        else "training starts again from the initial weights"
    )
    rows = "rows may be left out" if strategy.discards_data else "every row is kept"
    yield f"\n- What changes: {CHANGES[strategy.tier].lower()}; {weights}; {rows}."
    parameters = ", ".join(f"`{name}`" for name in strategy.parameters)
    yield f"- In a fix.json: {parameters or 'no parameters'}."
    yield from (f"- Searched, mild to strong: {told}." for told in _levels(strategy))
    yield f"- Reference: {' '.join(reference.split())}"


def _levels(strategy: Strategy) -> Iterator[str]:
    """Yield each choice that `space` draws, with its levels where they are written out there."""
    source = ast.parse(textwrap.dedent(inspect.getsource(type(strategy).space)))
    for call in ast.walk(source):
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "hp.Choice":
            name, levels = call.args
            written = levels.body if isinstance(levels, ast.IfExp) else levels
            if isinstance(written, ast.List):
                values = eval(ast.unparse(written))
                told = ", ".join(
                    value if isinstance(value, str) else f"{value:g}" for value in values
                )
                yield f"`{ast.literal_eval(name)}` {told}"
            else:
                yield f"`{ast.literal_eval(name)}`, as the run calls for"


if __name__ == "__main__":
    PAGE.write_text(page())
    SCHEMA.write_text(schema())
