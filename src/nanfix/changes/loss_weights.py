"""The weights of the losses of several outputs, as `compile` takes them."""

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from nanfix.changes.change import Change, Lasts

if TYPE_CHECKING:
    import keras

    from nanfix.private.keras import CompileLoss


@dataclass(frozen=True)
class LossWeights(Change):
    """Weigh losses by other numbers than `compile` was given, in the order of these, flattened;
    None leaves one as it is.

    The model keeps them, and a saved one is compiled with them.
    """

    weights: tuple[float | None, ...] = ()
    kind: ClassVar[str] = "loss weights"
    order: ClassVar[int] = 45

    @property
    def lasts(self):
        return Lasts.COMPILED

    def install(self, shop, plan):
        from nanfix.model.undo import put
        from nanfix.private.objects import COMPILE_LOSS, compile_config

        if not self.weights:
            return
        weights = _among(self.weights, shop.model)
        put(shop.repair, shop.model, COMPILE_LOSS, weighed(shop.model, self.weights))
        compiled = compile_config(shop.model)
        if compiled is not None:
            config = {**compiled.config, "loss_weights": weights}
            put(shop.repair, compiled, "config", config)

    def in_source(self, run, plan, call):
        from nanfix.changes.loss import UNKNOWN_COMPILE
        from nanfix.records.source_changes import ArgumentChange, NoPlace

        names = list(inspect.signature(run.model.compile).parameters)
        if call.compiled is None:
            yield NoPlace(reason=UNKNOWN_COMPILE)
        elif "loss_weights" not in names:
            yield NoPlace(reason="the model's own compile takes no loss_weights")
        else:
            yield ArgumentChange(
                target=call.compiled,
                name="loss_weights",
                value=repr(_among(self.weights, run.model)),
                position=names.index("loss_weights"),
            )


def weighed(model: "keras.Model", weights: tuple[float | None, ...]) -> "CompileLoss":
    """Return the loss of a compiled model with these weights, of which None leaves one as it is."""
    from nanfix.private.keras import CompileLoss
    from nanfix.private.objects import given_loss

    names = getattr(model, "output_names", None)
    return CompileLoss(given_loss(model), _among(weights, model), output_names=names)


def _among(weights: tuple[float | None, ...], model: "keras.Model") -> Any:
    """Return all weights, in the form that the user gave theirs in."""
    from keras import tree

    from nanfix.private.objects import given_loss_weights

    given = given_loss_weights(model)
    pairs = zip(tree.flatten(given), weights, strict=True)
    numbers = [own if instead is None else instead for own, instead in pairs]
    plain = [None if each is None else float(f"{float(each):.6g}") for each in numbers]
    return tree.pack_sequence_as(given, plain)
