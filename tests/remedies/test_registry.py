"""Installed strategies: those that can be used are found, a broken one is named and left out."""

from dataclasses import dataclass
from typing import Any

import pytest

from nanfix.records.errors import UnknownStrategyError
from nanfix.remedies import registry
from nanfix.strategies.clip_gradients import ClipGradients


@dataclass(frozen=True)
class Entry:
    """An entry point whose module does what `loads` does."""

    name: str
    loads: Any
    value: str = "package.module:Class"

    def load(self):
        return self.loads()


def breaks():
    raise ImportError("no module named torch")


@pytest.fixture
def installed(monkeypatch):
    entries = [
        Entry("clip-gradients", lambda: ClipGradients),
        Entry("broken", breaks),
        Entry("no-strategy", lambda: dict),
        Entry("clips-too", lambda: ClipGradients),
    ]
    monkeypatch.setattr(registry, "entry_points", lambda group: entries)
    registry._installed.cache_clear()
    yield
    registry._installed.cache_clear()


def test_a_broken_strategy_is_named_and_left_out(installed, caplog):
    assert list(registry.catalogue()) == ["clip-gradients"]
    told = registry.broken()
    assert "cannot be loaded (ImportError: no module named torch)" in told["broken"]
    assert "it is a dict, not a subclass of nanfix.Strategy" in told["no-strategy"]
    assert "provides a strategy of the same name, 'clip-gradients'" in told["clips-too"]
    assert all(reason in caplog.text for reason in told.values())


def test_asking_for_a_broken_strategy_says_why_it_is_missing(installed):
    with pytest.raises(UnknownStrategyError, match="no module named torch"):
        registry.select(["broken"])
