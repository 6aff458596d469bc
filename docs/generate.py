"""Write docs/strategies.md from the strategies themselves: `python docs/generate.py`."""

import inspect
from pathlib import Path

from nanfix.registry import catalogue

PAGE = Path(__file__).with_name("strategies.md")
HEAD = """# The strategies

Every remedy nanfix can apply, mildest first. This page is made from the files in `strategies/` by `python docs/generate.py`.
"""


def page() -> str:
    """Return the text of docs/strategies.md."""
    parts = [HEAD, "| strategy | tier | what it does |", "|---|---|---|"]
    for strategy in catalogue().values():
        first, _, _ = _text(strategy).partition("\n")
        parts.append(f"| [{strategy.name}](#{strategy.name}) | {strategy.tier.name.lower()} | {first} |")
    for strategy in catalogue().values():
        causes = sorted(cause.value for cause in strategy.treats)
        weights = "" if strategy.keeps_weights else "\nTraining starts again from the initial weights.\n"
        parts += [f"\n## {strategy.name}\n", _text(strategy), weights, "Tried when:\n", *(f"- {cause}" for cause in causes)]
    return "\n".join(parts) + "\n"


def _text(strategy: object) -> str:
    return inspect.cleandoc(type(strategy).__doc__ or "")


if __name__ == "__main__":
    PAGE.write_text(page())
