"""The loss that is trained on: a crossentropy from logits, or one whose gradient is bounded."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from nanfix.changes.change import Change, Lasts

if TYPE_CHECKING:
    import keras

    from nanfix.changes.plan import Plan
    from nanfix.model.run import Run
    from nanfix.records.loss_change import LossChange
    from nanfix.records.source_changes import NoPlace
    from nanfix.source.fit_call import FitCall

UNKNOWN_COMPILE = "the call of compile is not in the script's own code"


@dataclass(frozen=True)
class Loss(Change):
    """Train on another loss; this one stands for the user's own."""

    kind: ClassVar[str] = "loss"
    order: ClassVar[int] = 50

    @property
    def lasts(self):
        return Lasts.COMPILED

    @property
    def may_change_predictions(self):
        return False


@dataclass(frozen=True)
class LogitsLoss(Loss):
    """Compute the crossentropy called `name` from logits, times a constant factor.

    The logits are what goes into the output activation, or, for `raw_outputs`, the
    outputs themselves.
    """

    name: str = ""
    reduction: str = "sum_over_batch_size"
    factor: float = 1.0
    raw_outputs: bool = False

    def joined(self, later):
        return later

    def install_for_training(self, shop, plan):
        from nanfix.changes.loss_installer import train_from_logits

        given = shop.run.output_activation
        layer = None if self.raw_outputs or given is None else given[1]
        train_from_logits(
            shop.model, self._stock(from_logits=True), self.factor, layer, shop.training
        )

    def hand_back(self, shop, plan, undo):
        from nanfix.changes.loss_installer import compile_with

        words = compile_with(
            shop.model, self._stock(from_logits=self.raw_outputs), self.factor, "", undo
        )
        return [f"{words}; it is your loss, computed so that it stays finite."]

    def in_source(self, run, plan, call):
        from nanfix.records.source_changes import NoPlace

        loss = _crossentropy(run, plan, self)
        if loss is None:
            yield NoPlace(reason="without its last activation the model would predict logits")
        else:
            yield compile_change(run, call, loss, _weight(self.factor))

    def _stock(self, *, from_logits: bool) -> "keras.losses.Loss":
        import keras  # loads TensorFlow

        from nanfix.model.crossentropies import CROSSENTROPIES

        kind = getattr(keras.losses, CROSSENTROPIES[self.name].class_name)
        return kind(from_logits=from_logits, reduction=self.reduction)


@dataclass(frozen=True)
class RobustLoss(Loss):
    """Train on one of Keras' losses, whose gradient is bounded; the user's own goes on judging."""

    name: str = ""
    arguments: tuple[tuple[str, float], ...] = ()
    factor: float = 1.0

    def joined(self, later):
        return later

    def install_for_training(self, shop, plan):
        from nanfix.changes.loss_installer import train_on

        train_on(shop.model, self._stock(), self.factor, shop.training)

    def hand_back(self, shop, plan, undo):
        from nanfix.changes.loss_installer import compile_with

        shown = ", ".join(f"{name}={value:g}" for name, value in self.arguments)
        words = compile_with(shop.model, self._stock(), self.factor, shown, undo)
        return [f"{words}, no longer with your own loss: give compile a metric to see that."]

    def in_source(self, run, plan, call):
        from nanfix.changes.layer_source import number

        arguments = ", ".join(f"{name}={number(value)}" for name, value in self.arguments)
        yield compile_change(
            run, call, f"keras.losses.{self.name}({arguments})", _weight(self.factor)
        )

    def _stock(self) -> "keras.losses.Loss":
        import keras  # loads TensorFlow

        loss = getattr(keras.losses, self.name)(**dict(self.arguments))
        whole = {**loss.get_config(), **dict(self.arguments)}
        # Keras leaves the arguments out of Huber's.
        loss.get_config = functools.partial(dict, whole)
        return loss


def compile_change(
    run: "Run", call: "FitCall", loss: str | None = None, weight: str | None = None
) -> "LossChange | NoPlace":
    """Return the change of the call of `compile` by which it is given this loss, as
    source, and this weight of it.
    """
    from nanfix.records.loss_change import LossChange
    from nanfix.records.source_changes import NoPlace

    if call.compiled is None:
        return NoPlace(reason=UNKNOWN_COMPILE)
    if loss is None and isinstance(run.user_loss, list | tuple | dict):
        return NoPlace(reason="compile is given losses in a list or dict")
    return LossChange(compiled=call.compiled, loss=loss, weight=weight)


def weigh_outputs(
    run: "Run", call: "FitCall", factors: Mapping[str, str]
) -> "LossChange | NoPlace":
    """Return the change of the call of `compile` by which the losses of these of several outputs
    are weighed, each by a factor written as "1 / ...".
    """
    from nanfix.model.outputs import output_names
    from nanfix.records.loss_change import LossChange
    from nanfix.records.source_changes import NoPlace

    if call.compiled is None:
        return NoPlace(reason=UNKNOWN_COMPILE)
    if not isinstance(run.user_loss, list | tuple | dict):
        return NoPlace(reason="compile is given one loss for all outputs, which takes no weights")
    return LossChange(
        compiled=call.compiled,
        of_outputs=dict(factors),
        outputs=output_names(run),
        named=isinstance(run.user_loss, dict),
    )


def _crossentropy(run: "Run", plan: "Plan", wanted: LogitsLoss) -> str | None:
    """Return the stock loss that computes as `wanted` does, also by way of the logits that Keras'
    own activations keep.

    None where it is the user's own stock loss that has to be told of logits: then the
    model would predict these.
    """
    from nanfix.changes.layers import LayerAttributes
    from nanfix.model.crossentropies import (
        COMPUTED_FROM_LOGITS,
        CROSSENTROPIES,
        PROBABILITIES,
        crossentropy_of,
    )

    address, _ = run.output_activation or (None, None)
    activation = (
        plan.of(LayerAttributes).attributes.get(address, {}).get("activation")
        if address is not None
        else None
    )
    activation = activation or run.output_name
    given = ["from_logits=True"] if wanted.raw_outputs else []
    given += (
        [f"reduction={wanted.reduction!r}"] if wanted.reduction != "sum_over_batch_size" else []
    )
    own = crossentropy_of(run.user_loss)
    if not wanted.raw_outputs and (activation not in PROBABILITIES or own in COMPUTED_FROM_LOGITS):
        return None
    return f"keras.losses.{CROSSENTROPIES[wanted.name].class_name}({', '.join(given)})"


def _weight(factor: float) -> str | None:
    from nanfix.changes.layer_source import number

    return None if factor == 1.0 else number(factor)
