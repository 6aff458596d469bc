"""The outputs of a model, each by itself: its loss, its shape, and the layer that gives it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from keras import tree

from nanfix.model.activations import activation_name
from nanfix.model.crossentropies import Targets, crossentropy_of
from nanfix.model.run import Run
from nanfix.private.objects import given_loss_weights

if TYPE_CHECKING:
    import keras

    from nanfix.model.crossentropies import UserLoss


OUTPUT = "output"  # the name of the only one of a model
T = TypeVar("T")


@dataclass(frozen=True)
class Output:
    """One output of a model: the name under which Keras logs its loss, that loss, the shape without
    rows, the activation that it comes from, if that is known, and the address of the layer that
    gives it, None for another operation.
    """

    logged: str
    loss: "UserLoss"
    shape: tuple[int, ...]
    activation: str | None
    address: str | None = None


def outputs_of(run: Run) -> Iterator[Output]:
    """Yield the outputs of a model in their order; nothing where losses cannot be kept apart."""
    shapes, model = getattr(run.model, "output_shape", None), run.model
    if isinstance(shapes, tuple) and all(isinstance(size, int | None) for size in shapes):
        if None not in shapes[1:] and not isinstance(run.user_loss, dict | list | tuple):
            last = run.output_activation
            activation = None if last is None else run.output_name
            yield Output("loss", run.user_loss, shapes[1:], activation, last and last[0])
        return
    names, losses = output_names(run), run.user_loss
    if isinstance(losses, dict):
        losses = [losses.get(name) for name in names]
    elif not isinstance(losses, list | tuple):
        losses = [losses] * len(names)
    flat = [tuple(each.shape[1:]) for each in tree.flatten(getattr(model, "outputs", None) or ())]
    flat = flat or list(run.output_shapes)
    if len(flat) != len(names) or len(losses) != len(names) or None in losses:
        return
    addresses = run.outputs or ()
    if len(addresses) != len(names):
        addresses = [None] * len(names)
    for name, loss, shape, address in zip(names, losses, flat, addresses, strict=True):
        if None in shape:
            return
        layer = None if address is None else run.members[address]
        activation = None if layer is None else activation_name(layer)
        yield Output(f"{name}_loss", loss, shape, activation, address)


def class_count(run: Run) -> int | None:
    """Return the number of classes of which the targets are indices; None for other targets or
    several outputs.
    """
    crossentropy, known = crossentropy_of(run.user_loss), getattr(run.model, "output_shape", None)
    if crossentropy is None or crossentropy.targets is not Targets.CLASS:
        return None
    # A model of the user's own class knows no shape before it is called.
    shapes = [known] if isinstance(known, tuple) else run.output_shapes
    last = shapes[0][-1] if len(shapes) == 1 and shapes[0] else None
    return last if isinstance(last, int) else None


def keys_of(outputs: Any) -> tuple[str, ...]:
    """Return the keys of a dict of single outputs, in the order that Keras flattens it in; none of
    what is no such dict.
    """
    flat = isinstance(outputs, Mapping) and len(tree.flatten(outputs)) == len(outputs)
    return tuple(sorted(outputs)) if flat else ()


def end_names(run: Run) -> tuple[str, ...]:
    """Return the names by which changes know the outputs of a model: OUTPUT for a single one; none
    where they have none.
    """
    count = len(run.outputs or ())
    names = tuple(output_names(run))
    return (OUTPUT,) if count == 1 else names if len(names) == count else ()


def output_names(run: Run) -> list[str]:
    """Return the names by which losses know the outputs of a model: the keys of the dict that it
    gives, or the names of its last layers; none where it has neither.
    """
    return list(run.output_keys or last_names(run.model))


def last_names(model: "keras.Model") -> list[str]:
    """Return the names of the layers that give the outputs of a graph; none of another model."""
    return list(getattr(model, "output_names", None) or ())


def trained_outputs(run: Run) -> list[str]:
    """Return the names under which Keras logs the losses of several outputs, without those that are
    weighed with 0; nothing for a single one.
    """
    names = output_names(run)
    weighed = zip(names, loss_weights(run, len(names)), strict=True)
    trained = [name for name, weight in weighed if weight != 0]
    return [f"{name}_loss" for name in trained] if len(names) > 1 else []


def loss_weights(run: Run, count: int) -> list[float]:
    """Return by what the loss of each of the `count` outputs is weighed in that of the model."""
    given, names = given_loss_weights(run.model), output_names(run)
    if isinstance(given, Mapping) and count == len(names) > 1:
        return [float(given.get(name, 1.0)) for name in names]
    leaves = [1.0 if each is None else float(each) for each in tree.flatten(given)]
    return leaves if len(leaves) == count else [1.0] * count


def in_order(arrays: list[T], given: Any, names: list[str]) -> list[T]:
    """Return the flattened arrays, or what stands for them, of what was `given` for the outputs, in
    the order of these: a dict, of which the keys are enough, is flattened by their order.
    """
    named = isinstance(given, Mapping | set | frozenset)
    if not named or set(given) != set(names) or len(arrays) != len(names):
        return arrays
    found = dict(zip(sorted(given), arrays, strict=True))
    return [found[name] for name in names]
