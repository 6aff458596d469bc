"""Activations behind the outputs of the model, whatever computes these."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from nanfix.changes.change import Change, check_known
from nanfix.changes.columns import Columns, in_words
from nanfix.changes.maps import Mixed

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
    name of one, one for each of the columns (`changes.columns`), or a mixture with an even guess.

    In a Sequential or Functional model they are layers behind its last one. Around any other its
    `call` computes them, as long as the object lives.
    """

    activations: Mapping[str, str | Columns | Mixed] = field(default_factory=dict)
    kind: ClassVar[str] = "behind outputs"
    order: ClassVar[int] = 15

    @property
    def may_change_predictions(self):
        return bool(self.activations)

    def check(self, run):
        check_known("output", self.activations, run.ends)

    def graph_key(self, shop):
        return sorted(self.activations.items(), key=lambda pair: pair[0])

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
        from nanfix.model.undo import override

        if shop.run.rebuildable:
            return []
        call = shop.model.call

        def activated(*args: Any, **kwargs: Any) -> Any:
            return self._computed(call(*args, **kwargs))

        override(undo, shop.model, "call", activated)
        return [AGAIN.format(what=" and ".join(map(_words, self.activations.values())))]

    def in_source(self, run, plan, call):
        for name, wanted in self.activations.items():
            yield from _in_source(name, wanted, run, call)

    def _computed(self, outputs: Any) -> Any:
        """Return what the activation makes of the only output of a model."""
        import keras  # loads TensorFlow

        from nanfix.changes.columns import applied

        (wanted,) = self.activations.values()
        if isinstance(wanted, Mixed):
            return wanted(outputs)
        by_name = isinstance(wanted, str)
        return keras.activations.get(wanted)(outputs) if by_name else applied(wanted, outputs)


def _words(wanted: str | Columns | Mixed) -> str:
    if isinstance(wanted, Mixed):
        return f"{1.0 - wanted.share:g} times and {wanted.offset:.3g} more"
    return wanted if isinstance(wanted, str) else in_words(wanted)


def _in_source(
    name: str, wanted: str | Columns | Mixed, run: "Run", call: "FitCall"
) -> "Iterator[SourceChange]":
    """Yield the layer behind the last one of a Sequential model or round the output of a Functional
    one, or what the model's own `call` has to do.
    """
    import keras  # loads TensorFlow

    from nanfix.changes.layer_source import float32_argument
    from nanfix.records.source_changes import UNKNOWN_CALL, CallChange, LayerChange, NoPlace
    from nanfix.source.fit_call import own_call

    own, target = own_call(call.model), call.places.of(call.model)
    if own is not None and target is not None:
        file, line = call.places.of_code(own)
        _, written, definitions = _written(wanted)
        yield CallChange(
            file=file, line=line, target=target, activation=written, definitions=definitions
        )
        return
    index = run.ends.index(name)
    single = call.model.outputs[index].dtype == "float32"
    layer, _, definitions = _written(wanted, float32_argument() if single else "")
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


def _written(wanted: str | Columns | Mixed, dtype: str = "") -> tuple[str, str, list[str]]:
    """Return as source a layer that computes it, with this argument for its dtype, a function that
    does, and what both need to have defined.
    """
    from nanfix.changes.columns import in_source
    from nanfix.changes.layer_source import literal, number

    if isinstance(wanted, Mixed):
        offset = f"{number(wanted.share)} / {wanted.classes}"
        layer = f"keras.layers.Rescaling({number(1.0 - wanted.share)}, offset={offset}{dtype})"
        return layer, layer, []
    if isinstance(wanted, str):
        layer = f"keras.layers.Activation({literal(wanted)}{dtype})"
        return layer, f"keras.activations.{wanted}", []
    function, definition = in_source(wanted, "linear")
    return f"keras.layers.Activation({function}{dtype})", function, [definition]
