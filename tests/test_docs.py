"""The documentation says what the code does."""

import importlib.util
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_page_of_strategies_is_the_one_their_files_make():
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    assert generate.PAGE.read_text() == generate.page()


def test_strategy_shown_in_the_readme_is_the_file_itself():
    assert (ROOT / "strategies" / "clip_gradients.py").read_text() in (ROOT / "README.md").read_text()


def test_readme_names_every_strategy():
    from nanfix.registry import catalogue

    text = (ROOT / "README.md").read_text()
    assert [name for name in catalogue() if name not in text] == []
