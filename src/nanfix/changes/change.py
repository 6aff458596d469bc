"""The contract of a kind of change: a frozen record that knows how it is installed,
handed back and written down.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, fields, replace
from enum import IntEnum
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self, TypeVar

from nanfix.records.errors import InputError

if TYPE_CHECKING:
    import keras

    from nanfix.changes.plan import Plan
    from nanfix.model.addresses import Member
    from nanfix.model.run import Run
    from nanfix.records.source_changes import SourceChange
    from nanfix.source.fit_call import FitCall

T = TypeVar("T")


class Workshop(Protocol):
    """Where changes are installed: the user's model, and two stacks that take back what
    was done to it.

    Attributes:
        model: the user's.
        run: the facts of the training.
        layers: the layers of the model by address.
        gate: fills and scales what goes into the model's `call`, and scales what comes out.
        repair: takes back what is the repair; what is put on it stays with the model
            that is handed back.
        training: takes back what is of use in training alone.
        trying: whether the plan is only tried: then a number belongs into a variable, so that the
            next plan needs no new trace.
        seed: for what is drawn.
    """

    model: keras.Model
    run: Run
    layers: dict[str, Member]
    gate: Any
    repair: ExitStack
    training: ExitStack
    trying: bool
    seed: int

    def kept(self, name: str, make: Callable[[], T]) -> T:
        """Return what `make()` made when something of this name was first asked for: it is kept
        from one plan to the next.
        """
        ...


class Lasts(IntEnum):
    """How long a change stays with the model that it was handed back in."""

    TRAINING = 0  # in the next one it has to be made again
    COMPILED = 1  # until the model is compiled anew
    MODEL = 2


@dataclass(frozen=True)
class Change:
    """One kind of change to a training, as plain data. Made without arguments, it changes nothing.

    A subclass is a frozen dataclass whose fields all have defaults that change nothing; it
    overrides what applies to it.

    Attributes:
        kind: the name under which a plan holds it; one plan holds one change of each kind. A class
            takes a name of its own, or inherits that of a kind to be another form of it.
        order: changes are installed, and written into the source, in this order.
    """

    kind: ClassVar[str] = ""
    order: ClassVar[int] = 100

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        if not cls.kind:
            raise TypeError(
                f"The kind of change {cls.__qualname__} has no name. Expected: a class attribute "
                "such as kind: ClassVar[str] = 'frozen layers'. Received: none. A plan holds "
                "changes by the names of their kinds."
            )
        for other in _derived(Change):
            # A class that is defined again, as in a notebook, takes the place of its older self.
            same = (other.__module__, other.__qualname__) == (cls.__module__, cls.__qualname__)
            if other.kind == cls.kind and not same and "kind" in vars(cls):
                raise TypeError(
                    "Two kinds of change have the same name. Expected: a kind of its own for "
                    f"{cls.__qualname__}. Received: {cls.kind!r}, the kind of "
                    f"{other.__module__}.{other.__qualname__}. Choose another name."
                )

    @property
    def addresses(self) -> frozenset[str]:
        """The addresses of the layers that it names."""
        return frozenset()

    @property
    def rebuilds(self) -> frozenset[str]:
        """Those of them that a saved model would make anew, without the change, if its
        own code makes them.
        """
        return frozenset()

    @property
    def may_change_predictions(self) -> bool:
        """Whether the model could predict something else after the hand-back: then its
        predictions are compared.

        True for every kind that takes something out of the model after training, or
        puts something in.
        """
        kind = type(self)
        taken_out = kind.install_for_training is not Change.install_for_training
        return taken_out or kind.hand_back is not Change.hand_back

    @property
    def spares_model(self) -> bool:
        """Whether the model itself trains as it is: only the data or the callbacks are others."""
        names = ("install", "install_for_training", "hand_back", "settle")
        return all(getattr(type(self), name) is getattr(Change, name) for name in names)

    @property
    def lasts(self) -> Lasts:
        """How long it stays with the model.

        What changes the model, for good or when it is handed back, stays with it; all else has to
        be made again in each training.
        """
        kind = type(self)
        stays = kind.install is not Change.install or kind.hand_back is not Change.hand_back
        return Lasts.MODEL if stays else Lasts.TRAINING

    def joined(self, later: Self) -> Self:
        """Return this change with a later one of the same kind: what that one sets comes in the
        place of what is set here.
        """
        joined = {}
        for each in fields(later):
            value, before = getattr(later, each.name), getattr(self, each.name)
            if value != getattr(type(later)(), each.name):
                joined[each.name] = {**before, **value} if isinstance(value, Mapping) else value
        return replace(self, **joined)

    def check(self, run: Run) -> None:
        """Raise InputError when it names a layer or an input that the run has not."""
        check_known("layer", self.addresses, run.members)

    def graph_key(self, shop: Workshop) -> object:
        """Return what of it is built into a traced graph: plans with equal keys share one. None
        where all is in variables.
        """
        return self

    def is_evaluated(self, shop: Workshop) -> bool:
        """Say whether that is in the graph of an evaluation, too, or in that of a step alone."""
        return True

    def install(self, shop: Workshop, plan: Plan) -> None:
        """Change the model for good, with `shop.repair` to take it back."""

    def install_for_training(self, shop: Workshop, plan: Plan) -> None:
        """Change what is of use in training alone, with `shop.training` to take it back."""

    def callbacks(
        self, run: Run, callbacks: Sequence[keras.callbacks.Callback]
    ) -> list[keras.callbacks.Callback]:
        """Return the callbacks to train with, made of the user's."""
        return list(callbacks)

    def hand_back(self, shop: Workshop, plan: Plan, undo: ExitStack) -> list[str]:
        """Put into the model, until `undo` is closed, what stands for it after the training.
        Returns notes for the user.
        """
        return []

    def settle(self, shop: Workshop) -> list[str]:
        """Leave it with the model when the training has ended for good. Returns notes
        for the user.
        """
        return []

    def in_source(self, run: Run, plan: Plan, call: FitCall) -> Iterator[SourceChange]:
        """Yield the changes of the user's source that make the same training; a NoPlace with the
        reason where there is none.
        """
        from nanfix.records.source_changes import NoPlace

        yield NoPlace(reason=f"nobody has said where a change of the kind {self.kind!r} goes")


def _derived(kind: type[Change]) -> Iterator[type[Change]]:
    for each in kind.__subclasses__():
        yield each
        yield from _derived(each)


def check_known(what: str, wanted: Iterable[str], known: Collection[str]) -> None:
    """Raise InputError when a layer or input that a change names is not one that the model has."""
    missing = [name for name in wanted if name not in known]
    if missing:
        raise InputError(
            f"The model has no {what} {missing[0]!r}. Expected: a fix that was made for this "
            f"model, whose {what}s are {', '.join(known) or 'none'}. Received: one that changes "
            f"{what} {missing[0]!r}. Repair this model anew."
        )
