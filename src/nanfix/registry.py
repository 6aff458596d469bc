"""Finds strategies by entry point; the built-in ones come the same way as everybody else's."""

from collections.abc import Iterable
from functools import cache
from importlib.metadata import entry_points

from nanfix.errors import InputError, NanfixError, UnknownStrategyError
from nanfix.strategy import Strategy

GROUP = "nanfix.strategies"


@cache
def catalogue() -> dict[str, Strategy]:
    """Return every installed strategy by name, mildest tier first, in a tier those that keep all data, then by name.

    Raises:
        NanfixError: two packages provide the same name, or an entry point is not a `Strategy`.
    """
    found: dict[str, Strategy] = {}
    for entry in entry_points(group=GROUP):
        strategy = entry.load()()
        if not isinstance(strategy, Strategy):
            raise NanfixError(
                f"Entry point {entry.name!r} in group {GROUP!r} is no strategy. Expected: a subclass of "
                f"nanfix.Strategy. Received: {type(strategy).__name__} from {entry.value}. Fix or uninstall that package."
            )
        if strategy.name in found:
            raise NanfixError(
                f"Two strategies are called {strategy.name!r}. Expected: one. Received: {entry.value} and "
                f"{type(found[strategy.name]).__module__}. Uninstall one of the two packages."
            )
        found[strategy.name] = strategy
    return dict(sorted(found.items(), key=lambda item: (item[1].tier, item[1].discards_data, item[0])))


def get(name: str) -> Strategy:
    """Return the strategy called `name`. Raises UnknownStrategyError with the known names."""
    known = catalogue()
    if name not in known:
        raise UnknownStrategyError(
            f"Unknown strategy {name!r}. Expected: one of {', '.join(known)}. Received: {name!r}. "
            "`nanfix strategies` lists what is installed."
        )
    return known[name]


def select(names: Iterable[str] | None, forbid: Iterable[str] = ()) -> dict[str, Strategy]:
    """Return the strategies named, all of them for None, without those in `forbid`; in catalogue order.

    Raises:
        UnknownStrategyError: one of the names, forbidden ones too, is not installed.
    """
    wanted = set(catalogue()) if names is None else {get(name).name for name in names}
    wanted -= {get(name).name for name in forbid}
    return {name: strategy for name, strategy in catalogue().items() if name in wanted}


def check_choice(names: Iterable[str] | None, forbid: Iterable[str]) -> None:
    """Raise InputError when `forbid` leaves nothing of a choice of strategies to search among, else as `select` does."""
    names, forbid = names and list(names), list(forbid)
    if not select(names, forbid):
        raise InputError(
            "No strategy is left to search among. Expected: at least one that is not forbidden. "
            f"Received: {'every strategy' if names is None else ', '.join(names)}, without {', '.join(forbid)}. Forbid fewer."
        )
