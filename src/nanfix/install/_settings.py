"""Sets in a probe what the user's callbacks set in the model, such as a temperature or a learning
rate.
"""

from collections import deque
from collections.abc import Sequence

import keras

from nanfix.model.optimizers import rate_variables, trained_optimizers
from nanfix.recorder.recording import SetAt


class SetAgain(keras.callbacks.Callback):
    """Sets the numbers of a model before the steps before which callbacks had set them; after the
    last of these they stay.

    Args:
        set_at: what was set, and after how many steps of the run.
        done: the steps of the run before the probe.
    """

    def __init__(self, set_at: Sequence[SetAt], done: int):
        super().__init__()
        self._left = deque(each for each in set_at if each[0] >= done)
        self._done, self._batch = done, 0

    def on_epoch_begin(self, epoch, logs=None):
        self._batch = 0

    def on_train_batch_begin(self, batch, logs=None):
        while self._left and self._left[0][0] <= self._done:
            for variable, value in self._left.popleft()[1]:
                variable.assign(value)

    def on_train_batch_end(self, batch, logs=None):
        self._done += batch + 1 - self._batch
        self._batch = batch + 1


def without_rates(set_at: Sequence[SetAt], model: keras.Model) -> tuple[SetAt, ...]:
    """Return what was set but for the learning rates of a model."""
    rates = set(map(id, rate_variables(trained_optimizers(model))))
    kept = (
        (
            total,
            tuple((variable, value) for variable, value in settings if id(variable) not in rates),
        )
        for total, settings in set_at
    )
    return tuple((total, settings) for total, settings in kept if settings)
