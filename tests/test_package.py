"""The package: cheap to import, complete, and with a registry that takes every strategy by entry point."""

import subprocess
import sys

import pytest

import nanfix
from nanfix.errors import InputError, UnknownStrategyError
from nanfix.registry import catalogue, check_choice, select
from nanfix.strategy import Strategy


def test_import_is_cheap_and_loads_no_tensorflow():
    code = (
        "import sys, time; begun = time.perf_counter(); import nanfix; seconds = time.perf_counter() - begun;"
        "assert not {'tensorflow', 'keras', 'sklearn', 'numpy'} & set(sys.modules), 'heavy import';"
        "assert seconds < 0.3, seconds"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


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
    assert list(select(["scale-inputs", "lower-learning-rate"])) == ["lower-learning-rate", "scale-inputs"]
    assert select([]) == {}
    with pytest.raises(UnknownStrategyError, match=r"Expected: one of .* Received: 'magic'"):
        select(["magic"])


def test_forbidden_strategies_are_left_out_and_have_to_exist():
    everything = list(select(None))
    assert list(select(None, ["scale-inputs"])) == [name for name in everything if name != "scale-inputs"]
    assert list(select(["scale-inputs", "clip-gradients"], ["scale-inputs"])) == ["clip-gradients"]
    with pytest.raises(UnknownStrategyError, match="Received: 'magic'"):
        select(None, ["magic"])
    check_choice(None, ["scale-inputs"])
    with pytest.raises(InputError, match="Received: scale-inputs, without scale-inputs, clip-gradients"):
        check_choice(["scale-inputs"], ["scale-inputs", "clip-gradients"])
    with pytest.raises(InputError, match="Received: every strategy, without"):
        check_choice(None, everything)
