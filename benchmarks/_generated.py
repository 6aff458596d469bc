"""Explosions drawn at random whose causes are known: each is proved by taking it away."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import keras
import numpy as np
from _faults import FAULTS, Fault
from _recipes import Recipe, draw, outcome

TRIES = 8
PAIR_EVERY = 4  # each fourth run has two faults


@dataclass(frozen=True)
class Explosion:
    """A training that goes non-finite with its faults, and learns without them."""

    number: int
    faults: tuple[Fault, ...]
    recipe: Recipe

    @property
    def label(self) -> str:
        return " + ".join(each.name for each in self.faults)

    def build(self) -> tuple[Any, np.ndarray, np.ndarray, dict[str, Any]]:
        keras.backend.clear_session()
        return self.recipe.build()


def explosion(number: int) -> Explosion | None:
    """Return the run of this number; None where no draw of its faults behaves as it should."""
    faults = faults_of(number)
    for attempt in range(TRIES):
        if proved(number, attempt, faults):
            return drawn(number, attempt)
    return None


def drawn(number: int, attempt: int) -> Explosion:
    """Return a draw of the run of this number, whether or not it counts."""
    faults = faults_of(number)
    return Explosion(number, faults, _recipe(number, attempt, faults, faults))


def faults_of(number: int) -> tuple[Fault, ...]:
    rng = np.random.default_rng(number)
    if number % PAIR_EVERY == PAIR_EVERY - 1:
        return _pair(rng)
    names = sorted(FAULTS)
    return (FAULTS[names[(number - number // PAIR_EVERY) % len(names)]],)


def proved(number: int, attempt: int, faults: tuple[Fault, ...]) -> bool:
    """Say whether a draw counts.

    With all faults, and with each alone of a pair, plain Keras ends non-finite; with none of them
    the same training learns.
    """
    made = partial(_recipe, number, attempt, faults)
    keras.backend.clear_session()
    if outcome(made(faults)) != "non-finite":
        return False
    alone = [outcome(made((each,))) for each in faults] if len(faults) > 1 else []
    return all(each == "non-finite" for each in alone) and outcome(made(())) == "learns"


def _pair(rng: np.random.Generator) -> tuple[Fault, ...]:
    """Return two faults that can be together."""
    faults = [FAULTS[name] for name in sorted(FAULTS)]
    while True:
        first, second = (faults[index] for index in rng.integers(len(faults), size=2))
        if (
            not first.slots & second.slots
            and not first.causes & second.causes
            and _wanted((first, second)) is not None
        ):
            return first, second


def _wanted(faults: tuple[Fault, ...]) -> dict[str, tuple[Any, ...]] | None:
    """Return what all faults want, None where that is nothing."""
    wanted: dict[str, tuple[Any, ...]] = {}
    for each in faults:
        for name, values in each.wanted.items():
            wanted[name] = tuple(v for v in values if v in wanted.get(name, values))
    return wanted if all(wanted.values()) else None


def _recipe(
    number: int, attempt: int, faults: tuple[Fault, ...], present: tuple[Fault, ...]
) -> Recipe:
    """Return the recipe of a draw with those faults in it that are `present`."""
    rng = np.random.default_rng([number, attempt])
    wanted = _wanted(faults) or {}
    recipe = draw(rng, {name: values[rng.integers(len(values))] for name, values in wanted.items()})
    for index, each in enumerate(faults):
        put = each.put if each in present else each.kept
        if put is not None:
            put(recipe, np.random.default_rng([number, attempt, index]))
    return recipe
