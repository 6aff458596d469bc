"""Keras' training step, unchanged, that also hands out the batches it drew."""

import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import keras
import tensorflow as tf
from keras import tree

from nanfix.model.optimizers import listening_to_updates, note_called
from nanfix.private.keras import (
    build_on_symbols,
    reduce_per_replica,
    trains_by_own_loop,
    without_optionals,
)
from nanfix.private.tensorflow import let_go

# As a training step is given it: tensors in tuples, lists and dicts, as the user nests them.
Batch = Any
Optional: Any = tf.experimental.Optional


@dataclass(frozen=True)
class Drawn:
    """The batches of one execution, unpacked only when somebody looks: unpacking costs
    more than a small step.

    `spec` is None for a single batch; else `value` holds optionals, stacked, of which the first
    `drawn` have a batch like that.
    """

    value: Any
    spec: Any = None
    drawn: Any = 1

    @property
    def count(self) -> int:
        return int(self.drawn)

    @property
    def first(self) -> Batch:
        return self.value if self.spec is None else _optional(self.value[0], self.spec).get_value()

    def batches(self) -> list[Batch]:
        if self.spec is None:
            return [self.value]
        return [
            _optional(variant, self.spec).get_value()
            for variant in tf.unstack(self.value)[: self.count]
        ]


class Listener(Protocol):
    """What listens to the executions of a step."""

    def before_execution(self, iterator: Iterator[Any]) -> None: ...

    def drawn(self, batches: Drawn) -> None: ...


@dataclass
class Row:
    """Steps of Keras' that the graph runs one after the other in one call, if `RecordingStep.row`
    is one: how many it is to run, and how many it has run.
    """

    wanted: int
    done: int = 0


class RecordingStep:
    """A `model.train_function` that informs `listener` of every execution and of the
    batches drawn in it.

    The compiled step is Keras' own (`train_step` under the model's strategy, with its
    `jit_compile`), so a run comes out bit-identical; only the function round it, which draws the
    batch, also returns it.
    """

    def __init__(self, model: keras.Model):
        self.listener: Listener | None = None
        self.steps = model.steps_per_execution  # of an execution
        self.row: Row | None = None
        self._model = model
        strategy = model.distribute_strategy

        @tf.autograph.experimental.do_not_convert
        def step_of_keras(data):
            # In a graph, while it is traced.
            with listening_to_updates(model, lambda optimizer, _: note_called(model, optimizer)):
                outputs = strategy.run(model.train_step, args=(data,))
            return reduce_per_replica(outputs, strategy, reduction="auto")

        one_step: Any = step_of_keras
        if not model.run_eagerly:
            one_step = tf.function(
                step_of_keras, reduce_retracing=True, jit_compile=model.jit_compile
            )
        self.one_step = without_optionals(model, one_step)

        @tf.autograph.experimental.do_not_convert
        def drawn_step(iterator: Any):
            data = iterator.get_next()
            return self.one_step(data), data

        @tf.autograph.experimental.do_not_convert
        def drawn_steps(iterator):
            return _several(self.one_step, iterator, self.steps)

        @tf.autograph.experimental.do_not_convert
        def steps_in_a_row(iterator, count):
            return _in_a_row(self.one_step, iterator, count)

        self._in_a_row: Any = tf.function(steps_in_a_row, reduce_retracing=True)
        drawn = drawn_steps if self.steps > 1 else drawn_step
        self._drawn: Any = drawn if model.run_eagerly else tf.function(drawn, reduce_retracing=True)
        self._prepared = False
        # A weak reference: nobody but Keras keeps its data alive.
        self._iterator: Callable[[], Any] = lambda: None

    def prepare(self, iterator: Iterator[Any]) -> bool:
        """Trace the step, which creates missing variables and slots at their initial
        values, but run nothing.

        Returns:
            Whether that could be done: a step that runs eagerly makes them when it is run.
        """
        if self._prepared:
            return True
        if self._model.run_eagerly or not isinstance(
            iterator, tf.data.Iterator | tf.distribute.DistributedIterator
        ):
            return False
        self._drawn.get_concrete_function(iterator)
        self._prepared = True
        return True

    def build(self, iterator: Any) -> None:
        """Make the variables of a model that runs eagerly, for a saved state to be put into; its
        code is run on symbols.
        """
        batch = tf.nest.map_structure(
            lambda spec: tf.zeros([n or 1 for n in spec.shape], spec.dtype), iterator.element_spec
        )
        build_on_symbols(self._model, batch)

    def __call__(self, iterator: Any) -> Any:
        if self.row is not None:
            self._iterator = weakref.ref(iterator)
            logs, done = self._in_a_row(iterator, tf.constant(self.row.wanted))
            self.row.done = int(done)
            return logs
        if self.listener is not None:
            self.listener.before_execution(iterator)
        if isinstance(iterator, tf.data.Iterator | tf.distribute.DistributedIterator):
            self._iterator = weakref.ref(iterator)
            logs, drawn = self._drawn(iterator)
            executed = [
                Drawn(drawn[0], iterator.element_spec, drawn[1]) if self.steps > 1 else Drawn(drawn)
            ]
        else:
            executed, logs = [], None
            for _, data in zip(range(self.steps), iterator, strict=False):
                logs = self.one_step(data)
                executed.append(Drawn(data))
        if self.listener is not None:
            for batches in executed:
                self.listener.drawn(batches)
        return logs

    def abandon(self) -> None:
        """Let go of the data iterator of a training that was broken off.

        Its end has to wait for a thread that sleeps the longer the older it is: many seconds,
        whenever its reference cycle happens to be collected.
        """
        let_go(self._iterator())

    def replay(self, batch: Batch) -> Any:
        """Run the compiled step on one recorded batch; returns Keras' logs."""
        return self.one_step(batch)


def recordable(model: keras.Model) -> bool:
    """Say whether the model trains by Keras' own loop, the only one whose batches can
    be handed out.
    """
    several_replicas = (
        model.steps_per_execution > 1 and model.distribute_strategy.num_replicas_in_sync > 1
    )
    return not trains_by_own_loop(model) and not several_replicas


def _variant(optional: Any) -> tf.Tensor:
    """Return the tensor that an optional consists of."""
    (variant,) = tf.nest.flatten(optional, expand_composites=True)
    return variant


def _optional(variant: tf.Tensor, spec: Any) -> Any:
    """Return the optional, of a batch like `spec`, that such a tensor stands for."""
    return tf.nest.pack_sequence_as(tf.OptionalSpec(spec), [variant], expand_composites=True)


def _several(one_step: Callable[[Any], Any], iterator: Any, count: int) -> tuple[Any, Any]:
    """Run up to `count` steps in the graph; return the last logs, the drawn batches as stacked
    optionals, and their number.
    """
    first = iterator.get_next()
    logs = one_step(first)
    drawn = tf.TensorArray(tf.variant, size=count, element_shape=())
    drawn = drawn.write(0, _variant(Optional.from_value(first)))
    missing = _variant(Optional.empty(iterator.element_spec))
    for index in range(1, count):
        drawn = drawn.write(index, missing)

    def body(index, logs, more, drawn):
        data = iterator.get_next_as_optional()
        logs = tf.cond(data.has_value(), lambda: one_step(data.get_value()), lambda: logs)
        return index + 1, logs, data.has_value(), drawn.write(index, _variant(data))

    index, logs, more, drawn = tf.while_loop(
        lambda index, logs, more, drawn: tf.logical_and(more, index < count),
        body,
        [1, logs, True, drawn],
    )
    return logs, (drawn.stack(), index - tf.cast(tf.logical_not(more), tf.int32))


def _in_a_row(one_step: Callable[[Any], Any], iterator: Any, count: tf.Tensor) -> tuple[Any, Any]:
    """Run up to `count` steps in the graph, none after a loss that is not finite; return the last
    logs and the number of steps.
    """

    def body(index, logs, _):
        data = iterator.get_next_as_optional()
        more = data.has_value()
        logs = tf.cond(more, lambda: one_step(data.get_value()), lambda: logs)
        return index + tf.cast(more, tf.int32), logs, more

    def goes_on(index, logs, more):
        wanted = more & (index < count)
        return wanted & tf.math.is_finite(logs["loss"]) if "loss" in logs else wanted

    done, logs, _ = tf.while_loop(
        goes_on,
        body,
        [1, one_step(iterator.get_next()), True],
    )
    return logs, done


def whole(batch: Batch) -> Batch:
    """Return a batch as one that several replicas share, and with None for what a generator left
    out; any other as it is.
    """

    def joined(leaf: Any) -> Any:
        if isinstance(leaf, Optional):
            return None
        return (
            tf.concat(leaf.values, axis=0)
            if isinstance(leaf, tf.distribute.DistributedValues)
            else leaf
        )

    return tree.map_structure(joined, batch)


def batch_bytes(batch: Batch) -> int:
    """Return the bytes that a batch keeps alive."""
    leaves = tf.nest.flatten(batch, expand_composites=True)
    return sum(
        int(leaf.shape.num_elements() or 0) * leaf.dtype.size
        for leaf in leaves
        if tf.is_tensor(leaf)
    )
