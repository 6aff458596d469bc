"""Finds strategies by entry point; the built-in ones come the same way as everybody else's."""

import logging
from collections.abc import Iterable
from functools import cache
from importlib.metadata import EntryPoint, entry_points

from nanfix.records.errors import InputError, UnknownStrategyError
from nanfix.remedies.strategy import Strategy

log = logging.getLogger("nanfix")

GROUP = "nanfix.strategies"


def catalogue() -> dict[str, Strategy]:
    """Return every installed strategy by name, mildest tier first, in a tier those that
    keep all data, then by name.

    One that cannot be used is left out, and named by `broken`.
    """
    return _installed()[0]


def broken() -> dict[str, str]:
    """Return, by the name of its entry point, why an installed strategy was left out."""
    return _installed()[1]


@cache
def _installed() -> tuple[dict[str, Strategy], dict[str, str]]:
    found: dict[str, Strategy] = {}
    left_out: dict[str, str] = {}
    for entry in entry_points(group=GROUP):
        try:
            strategy = entry.load()()
        except Exception as error:  # whatever somebody else's package does when it is loaded
            left_out[entry.name] = _left_out(
                entry, f"it cannot be loaded ({type(error).__name__}: {error})"
            )
            continue
        if not isinstance(strategy, Strategy):
            left_out[entry.name] = _left_out(
                entry, f"it is a {type(strategy).__name__}, not a subclass of nanfix.Strategy"
            )
        elif strategy.name in found:
            other = type(found[strategy.name]).__module__
            left_out[entry.name] = _left_out(
                entry, f"{other} provides a strategy of the same name, {strategy.name!r}"
            )
        else:
            found[strategy.name] = strategy
    for reason in left_out.values():
        log.warning("nanfix: %s", reason)
    return dict(
        sorted(found.items(), key=lambda item: (item[1].tier, item[1].discards_data, item[0]))
    ), left_out


def _left_out(entry: EntryPoint, reason: str) -> str:
    return (
        f"The installed strategy {entry.name!r} ({entry.value}) was left out: {reason}. Repair or "
        "uninstall its package."
    )


def get(name: str) -> Strategy:
    """Return the strategy called `name`. Raises UnknownStrategyError with the known names."""
    known = catalogue()
    if name not in known:
        raise UnknownStrategyError(
            f"Unknown strategy {name!r}. Expected: one of {', '.join(known)}. Received: {name!r}. "
            + broken().get(name, "`nanfix strategies` lists what is installed.")
        )
    return known[name]


def select(names: Iterable[str] | None, forbid: Iterable[str] = ()) -> dict[str, Strategy]:
    """Return the strategies named, all of them for None, without those in `forbid`; in
    catalogue order.

    Raises:
        UnknownStrategyError: one of the names, forbidden ones too, is not installed.
    """
    wanted = set(catalogue()) if names is None else {get(name).name for name in names}
    wanted -= {get(name).name for name in forbid}
    return {name: strategy for name, strategy in catalogue().items() if name in wanted}


def check_choice(names: Iterable[str] | None, forbid: Iterable[str]) -> None:
    """Raise InputError when `forbid` leaves nothing of a choice of strategies to search
    among, else as `select` does.
    """
    names, forbid = names and list(names), list(forbid)
    if not select(names, forbid):
        raise InputError(
            "No strategy is left to search among. Expected: at least one that is not forbidden. "
            f"Received: {'every strategy' if names is None else ', '.join(names)}, without "
            f"{', '.join(forbid)}. Forbid fewer."
        )
