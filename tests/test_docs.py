"""The documentation says what the code does."""

import importlib.util
import re
import tomllib
from dataclasses import fields
from pathlib import Path

import pytest
from typer.main import get_command

from nanfix.changes.change import Change
from nanfix.changes.optimizer import OptimizerSettings
from nanfix.cli import app, json_documents
from nanfix.model.run import Run
from nanfix.records.cause import Cause
from nanfix.remedies.registry import catalogue
from nanfix.remedies.strategy import Strategy
from nanfix.scripts.results import CallResult, ScriptResult

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def generate():
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_page_of_strategies_is_the_one_their_files_make(generate):
    assert generate.PAGE.read_text() == generate.page()


def test_schema_of_a_fix_is_the_one_it_is_read_by(generate):
    assert generate.SCHEMA.read_text() == generate.schema()


def test_page_of_the_command_line_names_every_option_and_key():
    text = (ROOT / "docs" / "command-line.md").read_text()
    options = {
        option
        for command in get_command(app.app).commands.values()
        for p in command.params
        for option in p.opts
    }
    call = json_documents.of_result("repair", ScriptResult(0, (CallResult(0, "net", ""),)))
    keys = [*call, *call["calls"][0], *json_documents.of_export("json", "{}", None)]
    named = [f"`{key}`" for key in keys] + [option for option in options if option.startswith("--")]
    assert [name for name in named if name not in text] == []


@pytest.mark.parametrize("cause", Cause, ids=lambda cause: cause.value)
def test_every_cause_has_its_line_on_the_page_that_it_names(cause):
    path, _, anchor = cause.page.partition("#")
    (line,) = [
        line for line in (ROOT / path).read_text().splitlines() if f'<a id="{anchor}"></a>' in line
    ]
    assert all(text in line for text in (cause.symptom, cause.sentence, cause.remedy))


def test_page_tells_of_every_strategy_what_it_is_for_and_what_it_changes(generate):
    sections = {text.partition("\n")[0]: text for text in generate.page().split("\n### ")[1:]}
    for name, strategy in catalogue().items():
        if type(strategy).__module__.startswith("nanfix.strategies."):
            told = [
                f"| {cause.symptom} | [{cause.sentence}](#{cause.value}) |"
                for cause in strategy.treats | strategy.eases
            ]
            told += ["- What changes: ", "- In a fix.json: ", "- Reference: "]
            assert [line for line in told if line not in sections[name]] == []


def public(kind):
    return [name for name in vars(kind) if not name.startswith("_")]


def facts(kind):
    """Return the names of the fields and properties of a record."""
    return [field.name for field in fields(kind)] + [
        name for name, each in vars(kind).items() if isinstance(each, property)
    ]


@pytest.mark.parametrize(
    "names",
    [
        [field.name for field in fields(OptimizerSettings) if field.name != "settings"],
        facts(Run),
        public(Change),
        list(Strategy.__annotations__),
        [name for name in public(Strategy) if name != "parameters"],
    ],
    ids=["optimizer", "run", "change", "attributes", "methods"],
)
def test_guide_to_writing_a_strategy_names_what_there_is(names):
    text = (ROOT / "docs" / "writing-a-strategy.md").read_text()
    assert names and [name for name in names if name not in text] == []


def test_guide_to_writing_a_strategy_names_every_kind_of_change():
    catalogue()  # loads them
    kinds = [kind for kind in derived(Change) if kind.__module__.startswith("nanfix.")]
    text = (ROOT / "docs" / "writing-a-strategy.md").read_text()
    named = [name for kind in kinds for name in (kind.__name__, f"`{kind.__module__}`")]
    assert named and [name for name in named if name not in text] == []


def derived(kind):
    return [each for direct in kind.__subclasses__() for each in (direct, *derived(direct))]


def test_strategy_shown_in_the_readme_is_the_file_itself():
    assert (ROOT / "strategies" / "clip_gradients.py").read_text() in (
        ROOT / "README.md"
    ).read_text()


@pytest.mark.parametrize(
    "page", [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")], ids=lambda page: page.name
)
def test_files_that_a_page_names_are_there(page):
    """With their folder, from the root, the package or the tests; `my_` is yours to choose."""
    named = set(re.findall(r"`((?:[a-z_]+/)+[\w.]*)`", page.read_text()))
    places = (ROOT, ROOT / "src" / "nanfix", ROOT / "tests")
    there = {name for name in named for place in places if (place / name).exists()}
    assert {name for name in named - there if "my_" not in name} == set()


def test_strategies_in_the_readme_are_there():
    """It shows some of them; all stand on the page that is made from their files."""
    text = (ROOT / "README.md").read_text()
    table = text.partition("| symptom | cause | remedy |")[2].partition("\n\n")[0]
    named = {
        name.strip() for line in table.splitlines()[2:] for name in line.split("|")[3].split(",")
    }
    assert len(named) > 10 and named <= set(catalogue())


def test_a_strategy_is_its_file_its_test_and_one_line():
    """What else there is about it is made from these: page, catalogue, command line."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = project["entry-points"]["nanfix.strategies"]
    files = {path.stem for path in (ROOT / "strategies").glob("[!_]*.py")}
    assert {name.replace("-", "_") for name in lines} == files
    assert {path.stem for path in (ROOT / "tests" / "strategies").glob("test_*.py")} == {
        f"test_{stem}" for stem in files
    }
    for name, place in lines.items():
        strategy = catalogue()[name]
        assert (
            f"{type(strategy).__module__}:{type(strategy).__name__}" == place
            and strategy.name == name
        )
        assert type(strategy).__module__ == f"nanfix.strategies.{name.replace('-', '_')}"
