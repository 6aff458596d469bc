"""How much memory this process may still take."""

from pathlib import Path

import psutil

CGROUPS = Path("/sys/fs/cgroup")
LIMITS = (  # limit and usage of a container: version 2 of control groups, then version 1
    (Path("memory.max"), Path("memory.current"), Path("memory.stat"), "inactive_file"),
    (
        Path("memory/memory.limit_in_bytes"),
        Path("memory/memory.usage_in_bytes"),
        Path("memory/memory.stat"),
        "total_inactive_file",
    ),
)


def available(cgroups: Path = CGROUPS) -> int:
    """Return the bytes that can still be taken: what is free on the machine, or less where a
    container's limit is nearer.

    Pages of files that the container keeps only as long as nobody needs the memory count as free.
    """
    free = int(psutil.virtual_memory().available)
    left = [
        _left(cgroups / limit, cgroups / usage, cgroups / stat, cache)
        for limit, usage, stat, cache in LIMITS
    ]
    return max(min([free, *(bytes_left for bytes_left in left if bytes_left is not None)]), 0)


def _left(limit: Path, usage: Path, stat: Path, cache: str) -> int | None:
    """Return what a control group has left; None where there is none, or none that
    limits memory.
    """
    try:
        allowed, taken = int(limit.read_text()), int(usage.read_text())
    except (OSError, ValueError):  # no such group, or "max"
        return None
    return allowed - taken + _reclaimable(stat, cache)


def _reclaimable(stat: Path, name: str) -> int:
    try:
        lines = [line.split() for line in stat.read_text().splitlines()]
    except OSError:
        return 0
    return next((int(line[1]) for line in lines if len(line) == 2 and line[0] == name), 0)
