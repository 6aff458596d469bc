"""Which optimizers a model has, and which of them its training step really calls. Loads nothing but
the standard library.
"""

import inspect
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from nanfix.model.undo import override
from nanfix.private.objects import TRACKING, learning_rate_of, updated_variables

if TYPE_CHECKING:
    import keras

# What keeps an optimizer from a division by an accumulator of 0.
ADDED_TO_ROOTS = ("epsilon", "l2_regularization_strength", "beta")
Gradients = list[Any]  # tensors or IndexedSlices, None for a weight without
Listen = Callable[["keras.optimizers.Optimizer", Gradients], None]
# The keys of the slots whose optimizer was seen to take a step, by model.
_CALLED: "WeakKeyDictionary[keras.Model, set[tuple[str, Hashable]]]" = WeakKeyDictionary()


@dataclass(frozen=True)
class Slot:
    """An attribute of a model, or an entry of a list or dict in one, that holds an optimizer."""

    model: "keras.Model"
    name: str
    entry: Hashable = None

    @property
    def key(self) -> tuple[str, Hashable]:
        return self.name, self.entry

    @property
    def optimizer(self) -> "keras.optimizers.Optimizer":
        value = getattr(self.model, self.name)
        return value if self.entry is None else value[self.entry]

    def put(self, optimizer: "keras.optimizers.Optimizer") -> None:
        """Let the model hold another optimizer here."""
        if self.entry is None:
            setattr(self.model, self.name, optimizer)
        else:
            value = getattr(self.model, self.name)
            keys = value if isinstance(value, Mapping) else range(len(value))
            changed = {key: optimizer if key == self.entry else value[key] for key in keys}
            setattr(
                self.model,
                self.name,
                changed if isinstance(value, Mapping) else list(changed.values()),
            )


def slots(model: "keras.Model") -> list[Slot]:
    """Return every place in which the model holds an optimizer; `model.optimizer` comes first."""
    import keras  # loads TensorFlow

    found = (
        [Slot(model, "optimizer")]
        if isinstance(getattr(model, "optimizer", None), keras.Optimizer)
        else []
    )
    for name, value in vars(model).items():
        if name.startswith(TRACKING):  # Keras keeps there what other attributes hold
            continue
        if isinstance(value, keras.Optimizer) and name != "optimizer":
            found.append(Slot(model, name))
        entries = (
            value.items()
            if isinstance(value, Mapping)
            else enumerate(value)
            if isinstance(value, list | tuple)
            else ()
        )
        found += [
            Slot(model, name, entry) for entry, item in entries if isinstance(item, keras.Optimizer)
        ]
    return found


def optimizers(model: "keras.Model") -> "list[keras.optimizers.Optimizer]":
    """Return the optimizers of a model, of which a GAN has several, each once."""
    return list({id(slot.optimizer): slot.optimizer for slot in slots(model)}.values())


def trained_slots(model: "keras.Model") -> list[Slot]:
    """Return one slot for each optimizer that takes steps: those that were seen to,
    else those that have, else all.

    `super().compile()` without an optimizer makes one that a training step of the
    user's own never calls.
    """
    if not slots(model):
        return []
    once = {id(slot.optimizer): slot for slot in reversed(slots(model))}
    each = list(reversed(once.values()))
    called = _CALLED.get(model, set())
    seen = {id(slot.optimizer) for slot in slots(model) if slot.key in called}
    return (
        [s for s in each if id(s.optimizer) in seen]
        or [s for s in each if _steps(s.optimizer)]
        or each
    )


def trained_optimizers(model: Any) -> list[Any]:
    """Return the optimizers that clip and update: the inner ones where a loss scale is
    wrapped round them.
    """
    return [base(slot.optimizer) for slot in trained_slots(model)]


def usual_rate(optimizer: "keras.optimizers.Optimizer") -> float:
    """Return the learning rate that Keras takes for such an optimizer when nothing is said."""
    import keras  # loads TensorFlow

    given = inspect.signature(type(optimizer)).parameters.get("learning_rate")
    stock = inspect.signature(keras.optimizers.Adam).parameters["learning_rate"].default
    return given.default if given and isinstance(given.default, float) else stock


def rate_variables(optimizers: "Iterable[keras.optimizers.Optimizer]") -> "list[keras.Variable]":
    """Return the variables that hold the learning rates which no schedule sets."""
    import keras  # loads TensorFlow

    rates = (learning_rate_of(base(optimizer)) for optimizer in optimizers)
    return [rate for rate in rates if isinstance(rate, keras.Variable)]


def base(optimizer: "keras.optimizers.Optimizer") -> Any:
    """Return the optimizer inside one that scales the loss; any other itself."""
    return getattr(optimizer, "inner_optimizer", optimizer)


def normalizes(optimizer: "keras.optimizers.Optimizer") -> bool:
    """Say whether the first step of an optimizer has the size of its learning rate in every weight,
    whatever the gradient: as all of Keras' own have it but SGD.
    """
    kind = type(base(optimizer))
    return kind.__module__.startswith("keras.") and kind.__name__ != "SGD"


def divides_by_nothing(optimizer: Any) -> bool:
    """Say whether an optimizer begins with an accumulator by whose root it cannot divide: one below
    0, or one of 0 to which it adds nothing, as Ftrl's is.
    """
    begins = getattr(optimizer, "initial_accumulator_value", None)
    adds = any(getattr(optimizer, name, 0.0) for name in ADDED_TO_ROOTS)
    return begins is not None and (begins < 0 or (begins == 0 and not adds))


def note_called(model: "keras.Model", optimizer: "keras.optimizers.Optimizer") -> None:
    """Remember that the training step calls an optimizer."""
    _CALLED.setdefault(model, set()).update(
        slot.key for slot in slots(model) if slot.optimizer is optimizer
    )


@contextmanager
def listening_to_updates(model: "keras.Model", listen: Listen) -> Iterator[None]:
    """Call `listen(optimizer, gradients)` whenever an optimizer of the model is given
    gradients, by whichever method.
    """
    with ExitStack() as during:
        for optimizer in optimizers(model):
            override(during, optimizer, "apply", _telling(optimizer, listen))
        yield


@contextmanager
def updates_withheld(model: "keras.Model", listen: Listen) -> Iterator[None]:
    """Do as `listening_to_updates` does, and change nothing by the gradients."""
    with ExitStack() as during:
        for optimizer in optimizers(model):

            def withheld(grads, *args, _optimizer=optimizer, **kwargs):
                listen(_optimizer, list(grads))
                return _optimizer.iterations

            override(during, optimizer, "apply", withheld)
        yield


def _telling(optimizer: "keras.optimizers.Optimizer", listen: Listen) -> Callable[..., Any]:
    apply = optimizer.apply

    def listened(grads, *args, **kwargs):
        gradients = list(grads)
        listen(optimizer, gradients)
        return apply(gradients, *args, **kwargs)

    return listened


def _steps(optimizer: "keras.optimizers.Optimizer") -> int:
    import numpy as np

    return int(np.asarray(base(optimizer).iterations)) if base(optimizer).built else 0


def variables_of(
    optimizer: "keras.optimizers.Optimizer", model: "keras.Model"
) -> "list[keras.Variable]":
    """Return the variables that an optimizer updates, of which a GAN's has only some of
    the model's.
    """
    return updated_variables(base(optimizer)) if optimizer.built else model.trainable_variables
