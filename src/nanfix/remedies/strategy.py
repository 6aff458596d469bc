"""The contract every remedy fulfills, built-in or installed."""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping
from enum import IntEnum
from typing import TYPE_CHECKING, Any, ClassVar

from nanfix.records.cause import Cause
from nanfix.records.diagnosis import Diagnosis

if TYPE_CHECKING:
    from nanfix.changes.plan import Plan
    from nanfix.model.run import Run


class Tier(IntEnum):
    """How much a remedy changes; the search tries the lower tiers first."""

    DATA = 1
    OPTIMIZER = 2
    SCALING = 3
    NUMERICS = 4
    ARCHITECTURE = 5


class Strategy(ABC):
    """One remedy: a pure function from a run and a plan to a changed plan.

    A strategy never touches the model itself; it describes the change, and nanfix installs, trains,
    judges and hands it back. It is found by its `name` through the entry-point group
    "nanfix.strategies".

    Attributes:
        name: lower-case words joined by hyphens; what a fix.json and the command line say.
        tier: how much it changes.
        treats: the causes it can remove.
        eases: causes it may help with though it does not remove them; tried when nothing that
            treats them has worked.
        keeps_weights: whether weights trained before the failure still mean something after it. If
            not, training starts again from the initial weights.
        discards_data: whether it leaves rows of the user's data out; tried after the strategies of
            its tier that keep them.
        instead_of: the names of strategies that treat the same causes less well, as one does that
            caps the loss, by which it looks lower: where this one works, they come last.
        exact: whether it computes the same numbers wherever they were finite. Where the run stays
            finite with it, it is no change that a smaller fix would do without.
        reference: where the method comes from.
    """

    name: ClassVar[str]
    tier: ClassVar[Tier]
    treats: ClassVar[frozenset[Cause]] = frozenset()
    eases: ClassVar[frozenset[Cause]] = frozenset()
    keeps_weights: ClassVar[bool] = True
    discards_data: ClassVar[bool] = False
    instead_of: ClassVar[frozenset[str]] = frozenset()
    exact: ClassVar[bool] = False
    reference: ClassVar[str] = ""

    def answers(self, diagnosis: Diagnosis) -> bool:
        """Say whether a cause that the diagnosis names is one that the remedy treats or eases."""
        return bool((self.treats | self.eases) & diagnosis.causes)

    @property
    def summary(self) -> str:
        """What it does, on one line: the first paragraph of its docstring."""
        return " ".join(inspect.cleandoc(type(self).__doc__ or "").partition("\n\n")[0].split())

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names of the parameters of `apply`, which an edit in a fix.json has."""
        given = inspect.signature(self.apply).parameters.values()
        return tuple(
            parameter.name for parameter in given if parameter.kind is parameter.KEYWORD_ONLY
        )

    def refusal(self, diagnosis: Diagnosis, run: "Run", plan: "Plan") -> str | None:
        """Return the reason why the remedy cannot be applied here, None where it can; called before
        anything is trained.

        Asked only for a diagnosis that the remedy `answers`. `plan` is what is changed already.
        """
        return None

    @abstractmethod
    def space(self, hp: Any, diagnosis: Diagnosis, run: "Run", plan: "Plan") -> dict[str, Any]:
        """Return the parameters of `apply`, drawn from `hp`, a keras_tuner.HyperParameters.

        Choices stand from mild to strong, and without unit: a share of the old learning rate, of
        the last finite gradient norm. What is returned is plain JSON.
        """

    @abstractmethod
    def apply(self, run: "Run", plan: "Plan", **params: Any) -> "Plan":
        """Return the plan with the remedy in it; the given one stays as it was."""

    @abstractmethod
    def explain(self, params: Mapping[str, Any]) -> str:
        """Say in one sentence, in the user's words, what the remedy changes."""

    def snippet(self, params: Mapping[str, Any]) -> str:
        """Return the Python line(s) a person would write for it; by default a comment
        with the explanation.
        """
        return f"# {self.explain(params)}"
