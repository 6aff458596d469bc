"""Guards: operations that are kept inside their domain."""

from collections import Counter
from collections.abc import Container
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from nanfix.changes.change import Change, Workshop
from nanfix.records.diagnosis import Phase, Place

if TYPE_CHECKING:
    from nanfix.model.run import Run
    from nanfix.records.source_changes import SourceChange
    from nanfix.source.fit_call import FitCall

# Of a step, in the model's own graph.
COMPUTED = (Phase.FORWARD, Phase.LOSS, Phase.STEP, Phase.GRADIENT, Phase.UPDATE)
NO_MATCH = (
    "The guard of {operation} at {place} did nothing: no such operation was met there, as when "
    "the code has changed."
)


@dataclass(frozen=True)
class Guard:
    """Keep one operation inside its domain, `epsilon` away from where it or its
    gradient is not finite.

    With an `epsilon` of 0 what is divided by 0 is 0, and exponentials are relative to the largest
    along the last axis. `operation` is TensorFlow's name of it, or LOG_OF_EXPONENTIALS for every
    logarithm of those, which is computed without them then, or CONSTANT for the constants that
    operations are given there, in which what is not finite is replaced. It is guarded wherever
    `source` ("file.py:LINE" of the user's code) computes it or, where no line of the user's does,
    in the layer at the address `layer`. `code` is the function and the text of that line, by which
    it is found again when the file has changed. `given` are operands as they are written there,
    each with what it was, where that says how a patch has to guard them; of a constant, with what
    is written for it. `half` says that the operation is computed in float16, which cannot hold
    every number that is written there for float32.
    """

    operation: str
    source: str | None
    layer: str | None
    epsilon: float
    code: str | None = None
    given: tuple[tuple[str, str], ...] = ()
    half: bool = False

    @property
    def place(self) -> tuple[str, str | None, str | None]:
        return self.operation, self.source, self.layer


def refusal_at(
    place: Place, run: "Run", operations: Container[object], otherwise: str
) -> str | None:
    """Return why no guard can be put there, None where one can; `otherwise` where none of these
    operations has failed.
    """
    if run.model.run_eagerly:
        return "the model runs eagerly, where no operation can be replaced"
    if place.operation not in operations or place.phase not in COMPUTED:
        return otherwise
    if place.phase is Phase.UPDATE and place.source is None:
        return "a stock optimizer has an epsilon of its own"
    if place.source is None and run.address_of(place.layer) is None:
        return "neither a layer nor a line of the user's code computes the operation"
    return None


@dataclass(frozen=True)
class Guards(Change):
    """Keep these operations inside their domain; of two guards of one place the later holds."""

    guards: tuple[Guard, ...] = ()
    kind: ClassVar[str] = "guards"
    order: ClassVar[int] = 70

    @property
    def addresses(self):
        return frozenset(guard.layer for guard in self.guards if guard.layer is not None)

    def joined(self, later):
        before = {guard.place: guard.given for guard in self.guards}
        guards = [
            replace(each, given=tuple(dict.fromkeys((*before.get(each.place, ()), *each.given))))
            for each in later.guards
        ]
        places = {guard.place for guard in later.guards}
        return Guards((*(each for each in self.guards if each.place not in places), *guards))

    def graph_key(self, shop):
        return self.guards

    def install(self, shop, plan):
        from nanfix.changes.graph_guard import install

        install(shop.model, self.guards, shop.repair, _matches(shop))

    def install_on_call(self, shop: Workshop, undo: ExitStack) -> None:
        """Guard the model's own `call` anew, when what stood round it is gone, until
        `undo` is closed.
        """
        from nanfix.changes.graph_guard import install_on_call

        install_on_call(shop.model, self.guards, undo, _matches(shop))

    def settle(self, shop):
        return [
            NO_MATCH.format(operation=guard.operation, place=guard.source)
            for guard in self.idle(shop)
        ]

    def idle(self, shop: Workshop) -> list[Guard]:
        """Return the guards that have found nothing to guard in any traced graph, so
        that they did nothing.
        """
        return [
            guard for guard in self.guards if guard.source is not None and not _matches(shop)[guard]
        ]

    def in_source(self, run, plan, call):
        from nanfix.records.source_changes import GuardChange, NoPlace

        for guard in self.guards:
            if guard.source is None:
                yield _of_keras(guard, run, call)
                continue
            name, _, line = guard.source.rpartition(":")
            file = call.places.file(name)
            if file is None:
                yield NoPlace(
                    reason=f"{name} is not a file of the script, or one of several of that name"
                )
            else:
                yield GuardChange(
                    file=file,
                    line=int(line),
                    operation=guard.operation,
                    epsilon=guard.epsilon,
                    given=guard.given,
                    half=guard.half,
                )


def _of_keras(guard: Guard, run: "Run", call: "FitCall") -> "SourceChange":
    """Return the change for an operation in Keras' own code: a layer in front of it, if one will do
    instead.
    """
    from nanfix.changes.masked_rows import in_front_of_mean
    from nanfix.records.source_changes import NoPlace

    found = None if guard.layer is None else in_front_of_mean(run, guard.layer, call)
    layer = None if guard.layer is None else run.members[guard.layer].name
    reason = f"{guard.operation} is computed in Keras' own code, in layer {layer}"
    return found or NoPlace(reason=reason)


def in_float16(run: "Run", layer: str | None) -> bool:
    """Say whether what the user's code computes in the layer at an address, or outside of all in
    the loss, is computed in float16.
    """
    import keras

    if layer is None:
        return keras.config.floatx() == "float16"
    member = run.members[layer]
    if isinstance(member, keras.Layer):
        return member.compute_dtype == "float16"
    return keras.tree.flatten(member.output)[0].dtype == "float16"  # an operation on symbols


def _matches(shop: Workshop) -> Counter[Guard]:
    """Return how many operations each guard has met, in whatever graph."""
    return shop.kept("matches of guards", Counter)
