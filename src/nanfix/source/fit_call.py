"""One call of `fit` in the user's own code, as it was before it trained."""

import inspect
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import keras
import numpy as np

from nanfix.model.addresses import SINGLE, declared_inputs
from nanfix.model.optimizers import Slot, base, slots
from nanfix.private.objects import direct_layers, learning_rate_of
from nanfix.records.source_places import Made
from nanfix.source.creation_sites import Places

if TYPE_CHECKING:
    from nanfix.model.schedules import Schedule

CLIPPING = ("clipnorm", "clipvalue", "global_clipnorm")


@dataclass(frozen=True)
class OptimizerMade:
    """One optimizer of a model as it was before it trained, the `base` in one that scales the loss
    (then it is `inner`).

    `key` is that of its slot, `made` the call that makes it, `rate` the learning rate, `started`
    says whether it has taken steps already.
    """

    key: tuple[str, Hashable]
    made: Made | None
    base: keras.optimizers.Optimizer
    inner: bool
    clips: frozenset[str]
    rate: float | None
    schedule: "Schedule | None"
    started: bool

    @classmethod
    def of(cls, places: Places, slot: Slot) -> "OptimizerMade":
        """Return what is to be known of the optimizer in a slot."""
        optimizer = base(slot.optimizer)
        rate = learning_rate_of(optimizer)
        number = isinstance(rate, keras.Variable)
        clips = frozenset(name for name in CLIPPING if getattr(optimizer, name, None))
        return cls(
            key=slot.key,
            made=places.of(optimizer),
            base=optimizer,
            inner=optimizer is not slot.optimizer,
            clips=clips,
            rate=float(np.asarray(optimizer.learning_rate)),
            schedule=None if number else rate,
            started=bool(int(np.asarray(optimizer.iterations))),
        )


class Entry(NamedTuple):
    """Where an input goes into a model: the calls that make the input, the first layer of a
    Sequential model, and the model itself; None for what the user's own code does not make.

    `in_list` says that it goes in at the beginning of the list of layers that the model is given.
    """

    input: Made | None
    first: Made | None
    model: Made | None
    in_list: bool = False


@dataclass(frozen=True)
class FitCall:
    """One call of `fit` as it was before it trained: where its model, optimizers and
    data come from.

    `inputs` gives by name where each input goes in. `built` says whether the model had its weights
    already.
    """

    places: Places
    model: keras.Model
    fit: Made | None
    compiled: Made | None
    optimizers: tuple[OptimizerMade, ...]
    inputs: Mapping[str, Entry]
    arguments: Mapping[str, Any]
    built: bool

    @classmethod
    def of(
        cls, places: Places, model: keras.Model, fit: Made | None, arguments: Mapping[str, Any]
    ) -> "FitCall":
        """Return what is to be known of a compiled model before `fit` trains it;
        nothing is built or drawn.
        """
        made = tuple(OptimizerMade.of(places, slot) for slot in slots(model))
        inputs = dict(entries(places, model))
        places.trains(model)
        return cls(
            places,
            model,
            fit,
            places.compiled(model),
            made,
            inputs,
            arguments,
            model.built,
        )


def entries(places: Places, model: keras.Model) -> Iterator[tuple[str, Entry]]:
    """Yield for each input its name and where it goes in: of a Sequential model that begins with
    another model and has no Input of its own, into that one, unless that has been trained
    elsewhere: then it knows its inputs as they are.
    """
    if isinstance(model, keras.Sequential):
        layers = list(direct_layers(model))
        first = layers[0] if layers and type(layers[0]).__name__ == "InputLayer" else None
        behind = next((layer for layer in layers if layer is not first), None)
        name = next(iter(declared_inputs(model)), SINGLE)
        made = _input(places, first, model)
        if made is None and isinstance(behind, keras.Model) and own_call(behind) is None:
            inner = [entry for _, entry in entries(places, behind)]
            if places.trained_by_another(behind, model) or len(inner) != 1:
                inner = [Entry(None, None, places.of(model), in_list=True)]
            yield name, inner[0]
        else:
            start = None if behind is None else places.of(behind)
            yield name, Entry(made, start, places.of(model))
    elif getattr(model, "inputs", None) and own_call(model) is None:
        made = {
            id(layer.output): layer
            for layer in model.layers
            if isinstance(layer, keras.layers.InputLayer)
        }
        for name, tensor in zip(declared_inputs(model), model.inputs, strict=True):
            start = _input(places, made.get(id(tensor)), model)
            yield name, Entry(start, None, places.of(model))


def _input(places: Places, layer: keras.Layer | None, model: keras.Model) -> Made | None:
    """Return the call of keras.Input, or None where Keras made the input itself, of the
    shape that a layer was given.
    """
    made, whole = (None if each is None else places.of(each) for each in (layer, model))
    return None if made is None or (whole is not None and made.place == whole.place) else made


def own_call(model: keras.Model) -> Any:
    """Return the code of a `call` that the user has written, or None for Keras' own."""
    function = inspect.unwrap(type(model).call)
    return (
        None
        if (function.__module__ or "").startswith("keras.")
        else getattr(function, "__code__", None)
    )
