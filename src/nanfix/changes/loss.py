"""The loss that is trained on: a crossentropy from logits, or one whose gradient is bounded."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from nanfix.changes.change import Change


@dataclass(frozen=True)
class Loss(Change):
    """Train on another loss."""

    kind: ClassVar[str] = "loss"
    order: ClassVar[int] = 50

    def install_for_training(self, shop, plan):
        from nanfix.changes._loss_installer import install_objective

        install_objective(shop.model, shop.run, self, shop.training)

    def hand_back(self, shop, plan, undo):
        from nanfix.changes._loss_installer import compile_with

        return compile_with(shop.model, self, undo)

    def in_source(self, run, plan, call):
        yield from loss_in_source(run, plan, call)


@dataclass(frozen=True)
class LogitsLoss(Loss):
    """Compute the crossentropy called `name` from logits, times a constant factor.

    The logits are what goes into the output activation, or, for `raw_outputs`, the outputs themselves.
    """

    name: str = ""
    reduction: str = "sum_over_batch_size"
    factor: float = 1.0
    raw_outputs: bool = False

    def joined(self, later):
        return later


@dataclass(frozen=True)
class RobustLoss(Loss):
    """Train on one of Keras' losses, whose gradient is bounded; the user's own goes on judging."""

    name: str = ""
    arguments: tuple[tuple[str, float], ...] = ()
    factor: float = 1.0

    def joined(self, later):
        return later


def loss_in_source(run: Any, plan: Any, call: Any) -> Iterator[Any]:
    """Yield what `compile` has to be given for the loss of the plan, and for its scaling of the targets."""
    from nanfix.changes.layer_source import number
    from nanfix.changes.scaling import Scaling
    from nanfix.records.source_changes import LossChange, NoPlace

    wanted, targets = plan.of(Loss), plan.of(Scaling).targets
    if call.compiled is None:
        yield NoPlace(reason="the call of compile is not in the script's own code")
        return
    loss, factor = None, 1.0
    if isinstance(wanted, RobustLoss):
        arguments = ", ".join(f"{name}={number(value)}" for name, value in wanted.arguments)
        loss, factor = f"keras.losses.{wanted.name}({arguments})", wanted.factor
    elif isinstance(wanted, LogitsLoss):
        loss, factor = _crossentropy(run, plan, wanted), wanted.factor
        if loss is None:
            yield NoPlace(reason="without its last activation the model would predict logits")
            return
    scale = None if targets is None else f"{number(targets.scale)}{'**2' if targets.degree == 2 else ''}"
    weight = None if factor == 1.0 else number(factor)
    if loss is None and isinstance(run.user_loss, list | tuple | dict):
        yield NoPlace(reason="compile is given losses in a list or dict")
        return
    if scale is not None:
        weight = f"{weight or 1} / {scale}"
    if loss or weight:
        yield LossChange(compiled=call.compiled, loss=loss, weight=weight)


def _crossentropy(run: Any, plan: Any, wanted: LogitsLoss) -> str | None:
    """Return the stock loss that computes as `wanted` does, also by way of the logits that Keras' own activations keep.

    None where it is the user's own stock loss that has to be told of logits: then the model would predict these.
    """
    from nanfix.changes.layers import LayerAttributes
    from nanfix.model.activations import activation_name
    from nanfix.model.crossentropies import COMPUTED_FROM_LOGITS, CROSSENTROPIES, PROBABILITIES, crossentropy_of

    address, last = run.activations[-1] if run.activations else (None, None)
    activation = plan.of(LayerAttributes).attributes.get(address, {}).get("activation") if address is not None else None
    activation = activation or (activation_name(last) if last is not None else "linear")
    given = ["from_logits=True"] if wanted.raw_outputs else []
    given += [f"reduction={wanted.reduction!r}"] if wanted.reduction != "sum_over_batch_size" else []
    own = crossentropy_of(run.user_loss)
    if not wanted.raw_outputs and (activation not in PROBABILITIES or own in COMPUTED_FROM_LOGITS):
        return None
    return f"keras.losses.{CROSSENTROPIES[wanted.name].class_name}({', '.join(given)})"
