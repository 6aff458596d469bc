"""The state before a step that itself makes variables, which only show what they began
with when they are made.
"""

import math
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from nanfix.model.object_state import counters, plain_state
from nanfix.model.snapshot import Snapshot, read, remember_unset, state_variables, verified

if TYPE_CHECKING:
    import keras


class Beginning:
    """Knows what every variable of a model held before its first step, also of those
    that come to be in that step.

    A model that runs eagerly cannot be traced without being run, and its code is not run twice: it
    may count, print or draw.
    """

    def __init__(self, model: Any, callbacks: "Iterable[keras.callbacks.Callback]" = ()):
        self._model = model
        self._held = {
            id(variable): (variable, read(variable)) for variable in state_variables(model)
        }
        self._states = tuple((callback, plain_state(callback)) for callback in callbacks)
        self._counters = tuple(counters(model))
        self._made: dict[int, tuple[tf.Variable, tf.Tensor]] = {}

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Note every variable that is made inside the `with` block, with its initial value."""

        def creator(make, **arguments):
            given: list[Any] = []
            initial: Any = arguments.get("initial_value")

            def noted():
                given.append(initial())
                return given[-1]

            if callable(initial):
                arguments["initial_value"] = noted
            made = make(**arguments)
            if isinstance(made, tf.distribute.DistributedValues):
                return made
            # In a graph, which is run later, a variable cannot be read; slots begin
            # with constants, though.
            value = (
                made.read_value()
                if tf.executing_eagerly()
                else tf.get_static_value(given[-1])
                if given
                else None
            )
            if value is not None:
                with tf.init_scope():
                    self._made[id(made)] = made, tf.convert_to_tensor(value)
            return made

        with tf.variable_creator_scope(creator):
            yield

    def snapshot(self, epoch: int, total: int) -> Snapshot:
        """Return the state of then, of all variables that there are now, finite or not."""
        variables = tuple(state_variables(self._model))
        tensors = tuple(self._initial(variable) for variable in variables)
        remember_unset(self._model, variables, tensors)
        norm = verified(self._model, variables, tensors)
        return Snapshot(
            epoch=epoch,
            step=0,
            total=total,
            variables=variables,
            tensors=tensors,
            callbacks=self._states,
            weight_norm=math.nan if norm is None else norm,
            taken=time.time(),
            counters=self._counters,
        )

    def _initial(self, variable: "keras.Variable | tf.Variable") -> tf.Tensor:
        inner = variable if isinstance(variable, tf.Variable) else variable.value
        for known, key in ((self._held, variable), (self._made, inner)):
            if id(key) in known:
                return known[id(key)][1]
        return read(variable)  # made where that cannot be seen
