"""Settings that the tests of explaining share."""

import pytest


@pytest.fixture(autouse=True)
def unhurried(monkeypatch):
    """A machine that is busy with other tests must not run out of time."""
    from nanfix.explain import incident

    monkeypatch.setattr(incident, "DIAGNOSIS_SECONDS", 60.0)
