"""Makes optimizers forget: what they remember of earlier steps, of all weights or of some."""

from collections.abc import Sequence
from contextlib import ExitStack

import keras
from keras import ops

from nanfix.model.optimizers import trained_optimizers, variables_of
from nanfix.model.snapshot import read
from nanfix.private.objects import learning_rate_of, moments, updated_variables


def forget(model: keras.Model) -> None:
    """Set what the optimizers remember of earlier steps to what new ones with the same
    constants would start with.

    The number of steps taken goes back to 0 too, since moments are corrected by it, but for a
    schedule that counts on it.
    """
    for optimizer in trained_optimizers(model):
        if not optimizer.built:
            continue
        with model.distribute_strategy.scope():
            fresh = type(optimizer).from_config(optimizer.get_config())
            fresh.build(variables_of(optimizer, model))
        rate = learning_rate_of(optimizer)
        counts = isinstance(rate, keras.optimizers.schedules.LearningRateSchedule)
        kept = {id(rate)} | ({id(optimizer.iterations)} if counts else set())
        for variable, new in zip(optimizer.variables, fresh.variables, strict=True):
            if id(variable) not in kept:
                variable.assign(new)


def forget_of(model: keras.Model, weights: Sequence[keras.Variable], undo: ExitStack) -> None:
    """Set what the optimizers remember of these weights to what new ones would start
    with, until `undo` is closed.
    """
    for optimizer in trained_optimizers(model):
        own = updated_variables(optimizer) if optimizer.built else []
        chosen = [
            index
            for index, variable in enumerate(own)
            if any(variable is weight for weight in weights)
        ]
        for each, start in moments(optimizer):
            for slot in (
                each[index] for index in chosen if isinstance(each[index], keras.Variable)
            ):
                undo.callback(slot.assign, read(slot))
                slot.assign(ops.full(slot.shape, start, slot.dtype))
