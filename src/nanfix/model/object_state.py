"""What Python objects remember beside variables: the state of callbacks, and counters that a model
of the user's own keeps.
"""

import copy
import weakref
from collections import deque
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from nanfix.private.objects import OF_CALLBACKS, TRACKING, all_layers

NUMBERS = (bool, int, float, complex, np.generic)
PLAIN = (*NUMBERS, str, bytes, type(None), np.ndarray)
CONTAINERS = (list, dict, set, tuple, deque)
UNTOUCHED = {"model", "params", "validation_data", *OF_CALLBACKS}
OF_KERAS = {"stop_training", "stop_evaluating", "stop_predicting"}
SMALL = 4096  # bytes of an array that is copied without a look at what it was

States = Iterable[tuple[Any, dict[str, Any]]]


class _Twins:
    """Copies of large arrays: one for all snapshots, as long as the array does not change."""

    def __init__(self):
        self._pairs: dict[int, tuple[weakref.ref[np.ndarray], weakref.ref[np.ndarray]]] = {}

    def other(self, array: np.ndarray) -> np.ndarray:
        """Return the copy of an array or, given a copy, the array itself, where both still hold the
        same; else a new copy.
        """
        if array.dtype == object or isinstance(array, np.memmap):  # no numbers, or not in memory
            return array
        if array.nbytes <= SMALL:
            return array.copy()
        one, other = self._pairs.get(id(array), (None, None))
        twin = other() if one is not None and other is not None and one() is array else None
        if twin is not None and _same(array, twin):
            return twin
        made = array.copy()
        self._pairs = {
            key: pair
            for key, pair in self._pairs.items()
            if all(reference() is not None for reference in pair)
        }
        self._pairs[id(array)] = weakref.ref(array), weakref.ref(made)
        self._pairs[id(made)] = weakref.ref(made), weakref.ref(array)
        return made


_twins = _Twins()


def plain_state(callback: keras.callbacks.Callback) -> dict[str, Any]:
    """Return the numbers, texts, arrays and containers a callback remembers; open files
    and the like stay its own.
    """
    memo: dict[int, Any] = {}
    items = vars(callback).items()
    return {
        n: _copied(v, memo)
        for n, v in items
        if n not in UNTOUCHED and isinstance(v, (*PLAIN, *CONTAINERS))
    }


def remember(states: States) -> None:
    """Let callbacks know again what they knew. What they have opened since, as a file,
    stays open.
    """
    for callback, state in states:
        memo: dict[int, Any] = {}
        now = vars(callback)
        opened = {
            n
            for n, v in state.items()
            if v is None and not isinstance(now.get(n), (*PLAIN, *CONTAINERS))
        }
        now.update(
            {name: _copied(value, memo) for name, value in state.items() if name not in opened}
        )


def arrays(states: States) -> Iterator[np.ndarray]:
    """Yield the arrays in what callbacks remembered, those of containers too."""
    for _, state in states:
        yield from _arrays(state, set())


def own_layers(model: keras.Model) -> list[keras.Layer]:
    """Return the model, and those of its layers whose class is not Keras': only the user's own code
    keeps state elsewhere.
    """
    return [
        model,
        *(
            layer
            for layer in all_layers(model)[1:]
            if type(layer).__module__.partition(".")[0] != "keras"
        ),
    ]


def plain_variables(model: keras.Model) -> list[keras.Variable | tf.Variable]:
    """Return what TensorFlow code of the user's own trains or counts with and Keras does not track:
    variables, generators.
    """
    found: dict[int, keras.Variable | tf.Variable] = {}
    for owner in own_layers(model):
        for name, value in vars(owner).items():
            if name not in _attributes_of_keras():
                found.update((id(variable), variable) for variable in _variables(value))
    return list(found.values())


def counters(model: keras.Model) -> list[tuple[keras.Layer, dict[str, Any]]]:
    """Return the numbers, arrays, and lists or dicts of numbers that a model and its
    layers hold as plain attributes.
    """
    states = []
    for owner in own_layers(model):
        attributes = {
            n: v
            for n, v in vars(owner).items()
            if n not in _attributes_of_keras() and not n.startswith(TRACKING)
        }
        states.append(
            (owner, {name: _counted(value) for name, value in attributes.items() if _counts(value)})
        )
    return states


def count_again(states: States) -> None:
    """Put counters back. Lists and dicts are filled anew, since Keras and the user's
    code hold them elsewhere too.
    """
    for owner, state in states:
        for name, value in state.items():
            now = vars(owner).get(name)
            if isinstance(value, list | dict) and type(now) is type(value) and now is not None:
                now.clear()
                now.update(value) if isinstance(now, dict) else now.extend(value)
            else:
                vars(owner)[name] = _counted(value)


@cache
def _attributes_of_keras() -> frozenset[str]:
    """Return the names of the attributes that every model and layer has."""
    bare = keras.Layer(name="bare"), keras.Model(name="bare")  # named, so that Keras counts none
    return frozenset(OF_KERAS).union(*map(vars, bare))


def _variables(value: object, depth: int = 3) -> Iterator[keras.Variable | tf.Variable]:
    if isinstance(value, tf.Variable | keras.Variable):
        yield value
    elif isinstance(value, tf.random.Generator):
        yield value.state
    elif isinstance(value, tf.Module) and not isinstance(value, keras.Layer):
        yield from value.variables
    elif isinstance(value, CONTAINERS) and depth:
        for item in value.values() if isinstance(value, dict) else value:
            yield from _variables(item, depth - 1)


def _counts(value: object) -> bool:
    if isinstance(value, list | dict):
        return all(
            isinstance(item, NUMBERS)
            for item in (value.values() if isinstance(value, dict) else value)
        )
    return isinstance(value, (*NUMBERS, np.ndarray))


def _counted(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return _twins.other(value)
    return copy.copy(value) if isinstance(value, list | dict) else value


def _copied(value: Any, memo: dict[int, Any]) -> Any:
    """Copy arrays and containers in containers, each once; other objects stay the same ones."""
    if isinstance(value, np.ndarray):
        return memo.setdefault(id(value), _twins.other(value))
    if not isinstance(value, CONTAINERS):
        return value
    if id(value) in memo:
        return memo[id(value)]
    if isinstance(value, tuple):
        items = [_copied(item, memo) for item in value]
        memo[id(value)] = type(value)(*items) if hasattr(value, "_fields") else tuple(items)
        return memo[id(value)]
    copied: Any = copy.copy(value)
    memo[id(value)] = copied
    if not isinstance(value, set):  # what is in a set cannot change
        for key, item in list(value.items() if isinstance(value, dict) else enumerate(value)):
            copied[key] = _copied(item, memo)
    return copied


def _arrays(value: object, met: set[int]) -> Iterator[np.ndarray]:
    if isinstance(value, np.ndarray):
        yield value
    elif isinstance(value, CONTAINERS) and id(value) not in met:
        met.add(id(value))
        for item in value.values() if isinstance(value, dict) else value:
            yield from _arrays(item, met)


def _same(one: np.ndarray, other: np.ndarray) -> bool:
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    return np.array_equal(one, other, equal_nan=one.dtype.kind in "fc")
