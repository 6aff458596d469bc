"""Callbacks that hold a fix's learning rate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from nanfix.model.optimizers import rate_variables, trained_optimizers
from nanfix.model.run import has_schedule

if TYPE_CHECKING:
    from nanfix.changes.optimizer import OptimizerSettings


class RateLimit(keras.callbacks.Callback):
    """Keeps callbacks that set the learning rate from raising it above the fix's."""

    def __init__(self, limit: float):
        super().__init__()
        self._limit = limit

    def _cap(self) -> None:
        for variable in rate_variables(trained_optimizers(self.model)):
            if float(np.asarray(variable)) > self._limit:
                variable.assign(self._limit)

    def on_epoch_begin(self, epoch, logs=None):
        self._cap()

    def on_train_batch_begin(self, batch, logs=None):
        self._cap()


class FiniteRate(keras.callbacks.Callback):
    """Keeps callbacks from setting a learning rate that is not finite: the last one above 0 stays,
    or `otherwise` where there was none.
    """

    def __init__(self, otherwise: float):
        super().__init__()
        self._otherwise, self._last = otherwise, dict[int, float]()

    def _keep(self) -> None:
        for variable in rate_variables(trained_optimizers(self.model)):
            rate = float(np.asarray(variable))
            if not math.isfinite(rate):
                variable.assign(self._last.get(id(variable), self._otherwise))
            elif rate > 0.0:  # at 0 nothing more would be learned
                self._last[id(variable)] = rate

    def on_epoch_begin(self, epoch, logs=None):
        self._keep()

    def on_train_batch_begin(self, batch, logs=None):
        self._keep()


class WarmUp(keras.callbacks.Callback):
    """Raises the learning rates from 0 to where they stand at the beginning, in proportion over the
    first `steps` steps.
    """

    def __init__(self, steps: int):
        super().__init__()
        self._steps = steps

    def on_train_begin(self, logs=None):
        self._targets = [
            (variable, float(np.asarray(variable)))
            for variable in rate_variables(trained_optimizers(self.model))
        ]
        self._first, self._warm = self._iterations(), False

    def on_train_batch_begin(self, batch, logs=None):
        if not self._warm:
            done = self._iterations() - self._first
            self._warm = done >= self._steps
            self._set(min(1.0, (done + 1) / self._steps))

    def on_train_end(self, logs=None):
        if not self._warm:
            self._set(1.0)

    def _iterations(self) -> int:
        return int(np.asarray(trained_optimizers(self.model)[0].iterations))

    def _set(self, share: float) -> None:
        for variable, target in self._targets:
            variable.assign(target * share)


class _Shares:
    """Learning rates in variables: what callbacks see and set, and what is trained
    with, `share` times as much.
    """

    def __init__(self, share: float):
        self._share = share
        # id of a variable -> what callbacks see, what is trained with.
        self._held: dict[int, tuple[float, float]] = {}

    def unscale(self, model: Any) -> None:
        """Let callbacks see what they would without the fix."""
        for variable in rate_variables(trained_optimizers(model)):
            trained = float(np.asarray(variable))
            seen, known = self._held.get(id(variable), (math.nan, math.nan))
            variable.assign(seen if trained == known else trained / self._share)
            self._held[id(variable)] = float(np.asarray(variable)), trained

    def scale(self, model: Any) -> None:
        """Train with the share of what they have made of it."""
        for variable in rate_variables(trained_optimizers(model)):
            seen, (before, trained) = (
                float(np.asarray(variable)),
                self._held.get(id(variable), (math.nan, math.nan)),
            )
            variable.assign(trained if seen == before else seen * self._share)
            self._held[id(variable)] = seen, float(np.asarray(variable))

    def of(self, logs: Any) -> None:
        """Tell of the rate that is trained with where a callback has told of the one
        that it set.
        """
        if logs and "learning_rate" in logs:
            logs["learning_rate"] = self._share * logs["learning_rate"]


class _Before(keras.callbacks.Callback):
    """Stands before the user's callbacks."""

    def __init__(self, shares: _Shares):
        super().__init__()
        self._shares = shares

    def on_train_begin(self, logs=None):
        self._shares.unscale(self.model)

    def on_epoch_begin(self, epoch, logs=None):
        self._shares.unscale(self.model)

    def on_epoch_end(self, epoch, logs=None):
        self._shares.unscale(self.model)

    def on_train_batch_begin(self, batch, logs=None):
        self._shares.unscale(self.model)

    def on_train_batch_end(self, batch, logs=None):
        self._shares.unscale(self.model)


class _After(keras.callbacks.Callback):
    """Stands behind the user's callbacks."""

    def __init__(self, shares: _Shares):
        super().__init__()
        self._shares = shares

    def on_train_begin(self, logs=None):
        self._shares.scale(self.model)

    def on_epoch_begin(self, epoch, logs=None):
        self._shares.scale(self.model)

    def on_epoch_end(self, epoch, logs=None):
        self._shares.scale(self.model)
        self._shares.of(logs)

    def on_train_batch_begin(self, batch, logs=None):
        self._shares.scale(self.model)

    def on_train_batch_end(self, batch, logs=None):
        self._shares.scale(self.model)


def with_rates(
    callbacks: Sequence[keras.callbacks.Callback], model: keras.Model, wanted: OptimizerSettings
) -> list[keras.callbacks.Callback]:
    """Return the user's callbacks with those that hold the fix's learning rate against
    them, and let it rise slowly.

    Where the fix trains with a share of each rate, the callbacks go on setting theirs, and the
    share of that is trained with.
    """
    rate = wanted.settings.get("learning_rate")
    limits: list[Any] = []
    # Where there is neither, nothing raises a rate, and to look in every step takes time.
    if rate is not None and callbacks and not has_schedule(model):
        limits.append(RateLimit(rate))
    if wanted.finite_rate is not None and rate_variables(trained_optimizers(model)):
        limits.append(FiniteRate(wanted.finite_rate))
    listed = [*callbacks, *limits]
    if listed and wanted.rate_share != 1.0:
        shares = _Shares(wanted.rate_share)
        listed = [_Before(shares), *listed, _After(shares)]
    return [*listed, *([WarmUp(wanted.warm_up)] if wanted.warm_up is not None else [])]
