"""The memory that may still be taken: the machine's, or what a container has left."""

import psutil
import pytest

from nanfix.data.memory import available

GROUPS = {
    "version 2": ("memory.max", "memory.current", "memory.stat", "inactive_file"),
    "version 1": (
        "memory/memory.limit_in_bytes",
        "memory/memory.usage_in_bytes",
        "memory/memory.stat",
        "total_inactive_file",
    ),
}


@pytest.mark.parametrize(("limit", "usage", "stat", "cache"), GROUPS.values(), ids=GROUPS)
def test_a_container_has_what_its_limit_leaves(tmp_path, limit, usage, stat, cache):
    (tmp_path / "memory").mkdir()
    (tmp_path / limit).write_text("3000000\n")
    (tmp_path / usage).write_text("2500000\n")
    assert available(tmp_path) == 500_000
    (tmp_path / stat).write_text(f"anon 5\n{cache} 100000\n")
    assert available(tmp_path) == 600_000
    (tmp_path / usage).write_text("4000000\n")
    assert available(tmp_path) == 0


def test_no_limit_leaves_what_is_free_on_the_machine(tmp_path, monkeypatch):
    monkeypatch.setattr(psutil, "virtual_memory", lambda: type("Memory", (), {"available": 700}))
    assert available(tmp_path) == 700
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("5\n")
    assert available(tmp_path) == 700
    (tmp_path / "memory.max").write_text("9000\n")
    assert available(tmp_path) == 700
