"""The gradients of the training that a prepared model is in, without a step being taken."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import tree

from nanfix.changes.held_by_guards import Held, gradients_let_through, shares_held
from nanfix.install.players import Played
from nanfix.model.logged_losses import loss_of
from nanfix.model.optimizers import Gradients, updates_withheld
from nanfix.model.randomness import preserved_randomness
from nanfix.model.snapshot import Snapshot, restore, take_as_it_is
from nanfix.model.training_step import Batch, recordable
from nanfix.model.undo import override
from nanfix.private.tensorflow import functions_run_eagerly

Gradient = list[np.ndarray]
# The gradients of a step, what its guards hold, and its logs.
Seen = tuple[list[tf.Tensor], list[Held], Any]
# A step of the user's own may compute gradients in a branch or a loop of a graph, out of which they
# do not come. It has been trained with, so nothing else is wrong with it.
NOT_IN_A_GRAPH = (tf.errors.OpError, TypeError, ValueError)


class Insight:
    """Looks at a model with all that is installed in it; the model is left as it was.

    Its training step is traced once, and serves as long as the plan that was prepared then does.

    Args:
        batches: returns a number of batches of a size, as `Prober.training_batches` does.
        played: returns what the losses are with weights as in a snapshot, as `Prober.played` does.
    """

    def __init__(
        self,
        model: keras.Model,
        batches: Callable[[int, int], list[Batch]],
        played: Callable[[Snapshot], Played | None],
    ):
        self._model, self.batches, self.played = model, batches, played

        def step(batch: Batch) -> Seen:
            heard: Gradients = []
            for metric in model.metrics:
                if isinstance(metric, keras.metrics.Mean):
                    metric.reset_state()  # so that the loss is that of this batch alone
            listening = updates_withheld(model, lambda _, gradients: heard.extend(gradients))
            # Gradients do not come out of a function that has been compiled apart.
            with listening, functions_run_eagerly(True), shares_held() as shares:
                logs = model.train_step(batch)
            return [tf.convert_to_tensor(each) for each in heard if each is not None], shares, logs

        def let_through(batch: Batch) -> Seen:
            with gradients_let_through():
                return step(batch)

        def by_output(batch: Batch, which: tf.Tensor) -> Seen:
            with gradients_of_output(model, which):
                return step(batch)

        self._step: Any = tf.function(step, reduce_retracing=True)
        self._by_output: Any = tf.function(by_output, reduce_retracing=True)
        self._let_through: Any = tf.function(let_through, reduce_retracing=True)

    @property
    def has_gradients(self) -> bool:
        """Whether gradients can be had: not where Keras compiles no step, or several devices share
        one.
        """
        model = self._model
        single = model.distribute_strategy.num_replicas_in_sync == 1
        return single and recordable(model) and not model.run_eagerly

    def gradients(self, batches: Iterable[Batch]) -> Iterator[Gradient]:
        """Yield the gradient of each batch, at every variable that has one; nothing where the step
        does not let them be seen.
        """
        for gradient, _ in self.gradients_and_losses(batches):
            yield gradient

    def taught(self, batches: Iterable[Batch]) -> set[str] | None:
        """Return the paths of the weights that have a gradient other than 0 in one of the batches;
        None where it is not known which gradient is whose.
        """
        weights = self._model.trainable_variables
        gradients = list(self.gradients_let_through(batches))
        if not gradients or any(len(each) != len(weights) for each in gradients):
            return None
        return {
            weight.path
            for place, weight in enumerate(weights)
            if any(np.any(each[place]) for each in gradients)
        }

    def gradients_of_output(self, batches: Iterable[Batch], which: int) -> Iterator[Gradient]:
        """Yield what `gradients` does of the loss of one output alone, and of penalties, which come
        of no output; `which` is its place among the outputs as Keras flattens them.
        """
        by_output = partial(self._by_output, which=tf.constant(which))
        for gradients, _, _ in self._steps(batches, by_output):
            yield [np.asarray(each) for each in gradients]

    def gradients_let_through(self, batches: Iterable[Batch]) -> Iterator[Gradient]:
        """Yield what `gradients` would if no guard held any back."""
        for gradients, _, _ in self._steps(batches, self._let_through):
            yield [np.asarray(each) for each in gradients]

    def shares_held(self, batches: Iterable[Batch]) -> list[tuple[float, bool]]:
        """Return for each guarded operation the share of its numbers that the guard holds at the
        edge of the domain, over all batches, 0 of one in a layer; and whether it holds there what
        is computed of weights alone.
        """
        seen = [
            [(float(share), bool(beyond)) for share, beyond in shares]
            for _, shares, _ in self._steps(batches, self._step)
        ]
        return [
            (float(np.mean([share for share, _ in each])), any(beyond for _, beyond in each))
            for each in zip(*seen, strict=True)
        ]

    def gradients_and_losses(
        self, batches: Iterable[Batch]
    ) -> Iterator[tuple[Gradient, float | None]]:
        """Yield what `gradients` does, each with the loss of that batch by itself, None where the
        step names none.
        """
        for gradients, _, logs in self._steps(batches, self._step):
            yield [np.asarray(each) for each in gradients], loss_of(logs)

    def _steps(self, batches: Iterable[Batch], step: Any) -> Iterator[Seen]:
        """Yield for each batch what a step returns, nothing where it can't be traced."""
        before = take_as_it_is(self._model)
        try:
            with preserved_randomness():
                for batch in batches:
                    yield step(batch)
        except NOT_IN_A_GRAPH:
            return
        finally:
            restore(before)


@contextmanager
def gradients_of_output(model: keras.Model, which: tf.Tensor) -> Iterator[None]:
    """Let no loss but that of one output have a gradient, in every step of the model that is traced
    in the `with` block and computes its loss as Keras does.
    """
    computed = model.compute_loss

    def compute_loss(x=None, y=None, y_pred=None, sample_weight=None, training=True):
        outputs = [_if(which == i, each) for i, each in enumerate(tree.flatten(y_pred))]
        alone = tree.pack_sequence_as(y_pred, outputs)
        return computed(x, y, alone, sample_weight, training)

    with ExitStack() as undo:
        override(undo, model, "compute_loss", compute_loss)
        yield


def _if(wanted: tf.Tensor, output: tf.Tensor) -> tf.Tensor:
    """Return an output as it is, with a gradient of 0 unless it is wanted."""

    def gradient(upstream: tf.Tensor) -> tf.Tensor:
        return tf.where(wanted, upstream, tf.zeros_like(upstream))

    return tf.custom_gradient(lambda given: (tf.identity(given), gradient))(output)
