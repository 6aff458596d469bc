"""A constant that holds NaN or inf: an array of the user's that a loss or a layer computes with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # it loads pydantic, and strategies are imported without
    from nanfix.records.data_origin import DataOrigin

KINDS = {"nan": "NaN", "posinf": "inf", "neginf": "-inf"}


@dataclass(frozen=True)
class NonfiniteConstant:
    """A constant, and which of its numbers are not finite, in `words`.

    `instead` has the finite number that takes the place of each kind, by numpy's words for them;
    it is empty where the constant has no finite number. `name` is the variable that holds it on the
    line that takes it, None where that is not known; `of_numpy` says that this is no tensor.
    `origin` is the statement that made it.
    """

    words: str
    instead: tuple[tuple[str, float], ...] = ()
    name: str | None = None
    of_numpy: bool = True
    origin: DataOrigin | None = None

    @property
    def written(self) -> str:
        """What a person would write for the constant `{x}`."""
        return written(dict(self.instead), of_numpy=self.of_numpy)


def written(instead: Mapping[str, float], *, of_numpy: bool) -> str:
    """Return what a person would write for a constant `{x}` to have these numbers in the place of
    those that are not finite.
    """
    package = "np" if of_numpy else "keras.ops"
    return f"{package}.nan_to_num({{x}}, {', '.join(f'{k}={v:.7g}' for k, v in instead.items())})"
