"""The package: cheap to import, complete, and with a registry that takes every strategy
by entry point.
"""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import nanfix
from nanfix.model import user_code
from nanfix.records.errors import InputError, UnknownStrategyError
from nanfix.remedies.registry import catalogue, check_choice, select
from nanfix.remedies.strategy import Strategy

SOURCES = Path(__file__).resolve().parents[1] / "src"


def test_import_is_cheap_and_loads_no_tensorflow():
    code = (
        "import sys, time; begun = time.perf_counter(); import nanfix; seconds = "
        "time.perf_counter() - begun;assert not {'tensorflow', 'keras', 'sklearn', 'numpy'} & "
        "set(sys.modules), 'heavy import';assert seconds < 0.3, seconds"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_folder_of_that_name_does_not_shadow_the_package(tmp_path):
    """The package is found on sys.path, behind the working folder, as in an editable install: the
    clone seen from its parent.
    """
    (tmp_path / "nanfix").mkdir()
    code = (
        "import nanfix.remedies.registry, nanfix.strategies.clip_gradients as c; "
        "print(nanfix.__file__, c.__file__, sep='\\n')"
    )
    environment = {**os.environ, "PYTHONPATH": str(SOURCES)}
    command = [sys.executable, "-S", "-c", code]
    shown = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    strategy = SOURCES / "nanfix" / "strategies" / "clip_gradients.py"
    assert shown.stdout.splitlines() == [str(SOURCES / "nanfix" / "__init__.py"), str(strategy)]
    imported = str(user_code.PACKAGE / "strategies" / "clip_gradients.py")
    assert user_code.is_own(imported) and not user_code.is_users(imported)


def test_an_editable_install_is_an_entry_of_the_path():
    """As setuptools decides it: one parent folder, from which every package can be
    imported. Wheels get the same files.
    """
    told = tomllib.loads((SOURCES.parent / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert told["package-dir"] == {"": "src"}
    found = {
        ".".join(path.parent.relative_to(SOURCES).parts)
        for path in (SOURCES / "nanfix").rglob("__init__.py")
    }
    assert set(told["packages"]) == found | {"nanfix.strategies"}
    for package in told["packages"]:
        assert (SOURCES / package.replace(".", "/") / "__init__.py").is_file()
    assert (SOURCES / "nanfix" / "strategies").resolve() == SOURCES.parent / "strategies"


def test_every_public_name_is_there():
    for name in nanfix.__all__:
        assert getattr(nanfix, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        nanfix.nothing  # noqa: B018


def test_catalogue_is_ordered_by_tier():
    tiers = [strategy.tier for strategy in catalogue().values()]
    assert tiers == sorted(tiers)
    assert all(isinstance(strategy, Strategy) for strategy in catalogue().values())


def test_selection_keeps_the_catalogues_order_and_refuses_unknown_names():
    assert list(select(["scale-inputs", "lower-learning-rate"])) == [
        "lower-learning-rate",
        "scale-inputs",
    ]
    assert select([]) == {}
    with pytest.raises(UnknownStrategyError, match=r"Expected: one of .* Received: 'magic'"):
        select(["magic"])


def test_forbidden_strategies_are_left_out_and_have_to_exist():
    everything = list(select(None))
    assert list(select(None, ["scale-inputs"])) == [
        name for name in everything if name != "scale-inputs"
    ]
    assert list(select(["scale-inputs", "clip-gradients"], ["scale-inputs"])) == ["clip-gradients"]
    with pytest.raises(UnknownStrategyError, match="Received: 'magic'"):
        select(None, ["magic"])
    check_choice(None, ["scale-inputs"])
    with pytest.raises(
        InputError, match="Received: scale-inputs, without scale-inputs, clip-gradients"
    ):
        check_choice(["scale-inputs"], ["scale-inputs", "clip-gradients"])
    with pytest.raises(InputError, match="Received: every strategy, without"):
        check_choice(None, everything)
