"""Where the inputs go in a training step of the user's own: into the model's call, or past it."""

from collections.abc import Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING

import tensorflow as tf
from keras import tree

from nanfix.data.arrays import repacked, unpacked
from nanfix.install.sites import Site, Trace
from nanfix.model.addresses import input_names
from nanfix.model.operations import Operation, traced
from nanfix.model.optimizers import updates_withheld
from nanfix.model.snapshot import restore, take_as_it_is
from nanfix.model.undo import override
from nanfix.private.tensorflow import functions_run_eagerly
from nanfix.records.diagnosis import Phase

if TYPE_CHECKING:
    import keras

    from nanfix.model.training_step import Batch


def trains_by_call(model: "keras.Model", batch: "Batch") -> bool:
    """Say whether training calls the model itself, as a step of the user's own that calls its parts
    does not. The step is traced with a batch, and nothing is run; where TensorFlow cannot trace it,
    that is not known, and counts as true.
    """
    called, inner = [], model.call

    def call(*args, **kwargs):
        called.append(True)
        return inner(*args, **kwargs)

    def step() -> None:
        model.distribute_strategy.run(model.train_step, args=(batch,))

    before = take_as_it_is(model)
    with ExitStack() as during:
        during.callback(restore, before)  # numbers that a step counts by itself
        override(during, model, "call", call)
        # What the user has compiled would be taken as it was traced, without its call.
        during.enter_context(functions_run_eagerly(True))
        tf.function(step, autograph=False).get_concrete_function()
    return bool(called)


def inputs_in_step(model: "keras.Model", batch: "Batch") -> Mapping[str, Site]:
    """Return the sites of the inputs in a training step, by their names: which layers take them,
    and whether anything else does, as a loss that compares with them. The step is run eagerly, and
    changes nothing. Of a step that several devices run together nothing is known.
    """
    if model.distribute_strategy.num_replicas_in_sync > 1:
        return {}
    x, y, weight = unpacked(batch)
    names = input_names(model, x)
    leaves = [leaf if leaf is None else tf.identity(leaf) for leaf in tree.flatten(x)]
    trace = Trace()
    trace.begin(dict(zip(names, leaves, strict=True)))

    def visit(operation: Operation) -> None:
        if operation.phase not in (Phase.GRADIENT, Phase.UPDATE):
            trace.visit(operation)

    before = take_as_it_is(model)
    with ExitStack() as during:
        during.callback(restore, before)
        during.enter_context(updates_withheld(model, lambda optimizer, gradients: None))
        during.enter_context(functions_run_eagerly(True))
        during.enter_context(traced(visit))
        model.train_step(repacked(batch, tree.pack_sequence_as(x, leaves), y, weight))
    return {name: trace.site(name) for name in names if name is not None}
