"""Activations behind the outputs of the model, whatever computes these."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from nanfix.changes.change import Change, check_known
from nanfix.changes.columns import Columns

if TYPE_CHECKING:
    from nanfix.model.run import Run
    from nanfix.records.source_changes import SourceChange
    from nanfix.source.fit_call import FitCall

AGAIN = (
    "A saved model is made anew by its own code when it is loaded: compute {what} of its outputs "
    "there, too."
)


@dataclass(frozen=True)
class BehindOutputs(Change):
    """Compute activations of what the model gives, by the name of the output (`Run.ends`): each the
    name of one, or one for each of the columns (`changes.columns`).

    In a Sequential or Functional model they are layers behind its last one. Around any other its
    `call` computes them, as long as the object lives.
    """

    activations: Mapping[str, str | Columns] = field(default_factory=dict)
    kind: ClassVar[str] = "behind outputs"
    order: ClassVar[int] = 15

    @property
    def may_change_predictions(self):
        return bool(self.activations)

    def check(self, run):
        check_known("output", self.activations, run.ends)

    def graph_key(self, shop):
        return sorted(self.activations.items())

    def install(self, shop, plan):
        from nanfix.changes.insertion import activation_behind, insert_behind

        if not shop.run.rebuildable:
            shop.gate.activate(self._computed, shop.repair)
            return
        at = {shop.run.ends.index(name): wanted for name, wanted in self.activations.items()}
        layers = {
            index: activation_behind(shop.model.outputs[index], wanted)
            for index, wanted in at.items()
        }
        insert_behind(shop.model, layers, shop.repair)

    def hand_back(self, shop, plan, undo):
        from nanfix.changes.columns import in_words
        from nanfix.model.undo import override

        if shop.run.rebuildable:
            return []
        call = shop.model.call

        def activated(*args: Any, **kwargs: Any) -> Any:
            return self._computed(call(*args, **kwargs))

        override(undo, shop.model, "call", activated)
        what = " and ".join(
            wanted if isinstance(wanted, str) else in_words(wanted)
            for wanted in self.activations.values()
        )
        return [AGAIN.format(what=what)]

    def in_source(self, run, plan, call):
        for name, wanted in self.activations.items():
            yield from _in_source(name, wanted, run, call)

    def _computed(self, outputs: Any) -> Any:
        """Return what the activation makes of the only output of a model."""
        import keras  # loads TensorFlow

        from nanfix.changes.columns import applied

        (wanted,) = self.activations.values()
        by_name = isinstance(wanted, str)
        return keras.activations.get(wanted)(outputs) if by_name else applied(wanted, outputs)


def _in_source(
    name: str, wanted: str | Columns, run: "Run", call: "FitCall"
) -> "Iterator[SourceChange]":
    """Yield the layer behind the last one of a Sequential model or round the output of a Functional
    one, or what the model's own `call` has to do.
    """
    import keras  # loads TensorFlow

    from nanfix.changes.columns import in_source
    from nanfix.changes.layer_source import float32_argument, literal
    from nanfix.records.source_changes import UNKNOWN_CALL, CallChange, LayerChange, NoPlace
    from nanfix.source.fit_call import own_call

    function, definitions = None, []
    if not isinstance(wanted, str):
        function, definition = in_source(wanted, "linear")
        definitions = [definition]
    own, target = own_call(call.model), call.places.of(call.model)
    if own is not None and target is not None:
        file, line = call.places.relative(own.co_filename), own.co_firstlineno
        written = function or f"keras.activations.{wanted}"
        yield CallChange(
            file=file, line=line, target=target, activation=written, definitions=definitions
        )
        return
    index = run.ends.index(name)
    single = call.model.outputs[index].dtype == "float32"
    dtype = float32_argument() if single else ""
    layer = f"keras.layers.Activation({function or literal(wanted)}{dtype})"
    side, position = "outputs", index if len(run.ends) > 1 else None
    if isinstance(call.model, keras.Sequential):
        *_, last = (layer for address, layer in run.members.items() if "/" not in address)
        target, side, position = call.places.of(last), "after", None
    if target is None:
        yield NoPlace(reason=UNKNOWN_CALL.format(what="the last layer"))
    else:
        yield LayerChange(
            target=target,
            side=side,
            position=position,
            role="activated",
            layers=[layer],
            definitions=definitions,
        )
