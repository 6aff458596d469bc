"""The flight recorder: verified snapshots and the batches since the newest, kept while Keras trains."""

import functools
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import keras
import tensorflow as tf

from nanfix.data.memory import available
from nanfix.model.faults import Net
from nanfix.model.optimizers import base, optimizers
from nanfix.model.snapshot import Snapshot, nonfinite_variables, read, restore, state_variables, take
from nanfix.model.training_step import Drawn, RecordingStep, batch_bytes, is_running_mean, loss_of, named_loss, recordable, whole
from nanfix.private.objects import learning_rate_of
from nanfix.recorder._beginning import Beginning
from nanfix.recorder._pace import Pace
from nanfix.recorder._retention import Shelf
from nanfix.recorder.recording import Execution, Nonfinite, RecorderUsage, Recording, recorded_steps, refused_label, refuses_label
from nanfix.recorder.snapshot_files import Saved, SnapshotStore, joined
from nanfix.records.diagnosis import Onset
from nanfix.records.errors import RunDirError

KEEPING = 0.003  # share of the training's time that snapshots may take,
VERIFYING = 0.002  # and the checks between them
CHEAP = 3e-4  # seconds: what costs less is done at every epoch, where Keras itself takes longer
SHARE_OF_MEMORY = 0.1  # of the memory that is free when the run begins
SERIES = 1024  # steps whose loss is remembered
BATCH_HOOKS = ("on_train_batch_begin", "on_train_batch_end", "on_batch_begin", "on_batch_end")


def _under_the_net(hook: Callable[..., None]) -> Callable[..., None]:
    """Let a hook that fails of a fault of nanfix's own end the recording, not the training."""

    @functools.wraps(hook)
    def caught(self, *args, **kwargs):
        if self.failed:
            return
        try:
            hook(self, *args, **kwargs)
        except (Nonfinite, RunDirError):
            raise
        except Exception as error:
            self._net.caught("watching the training", error)
            self.failed = True

    return caught


class FlightRecorder(keras.callbacks.Callback):
    """Watches one `model.fit`: tests every loss, verifies the state now and then, and keeps what a replay needs.

    Raises `Nonfinite` out of `fit` at the first non-finite loss, or at the first verification that finds a
    non-finite weight, optimizer slot or statistic. Snapshots are taken just before a step, after all callbacks have
    had their say. The initial state is always kept, older snapshots are thinned geometrically, and all of it stays
    within `memory_bytes` (by default a tenth of the free memory); where two snapshots do not fit, they go to `store`.

    Args:
        callbacks: the user's, whose state belongs to a snapshot.
        memory_bytes: limit for snapshots and batches.
        store: where snapshots on disk are kept; None for never.
        durable: write a snapshot to the store now and then in any case, for a run that is killed to go on from.
        resume: the initial and the newest snapshot of such a run.
        net: keeps the faults of the recorder itself; after one it records no more, and the training goes on.
    """

    def __init__(
        self,
        callbacks: Sequence[Any] = (),
        memory_bytes: int | None = None,
        store: SnapshotStore | None = None,
        durable: bool = False,
        resume: tuple[Saved, Saved] | None = None,
        net: Net | None = None,
    ):
        super().__init__()
        self.incident: Nonfinite | None = None
        self.failed = False
        self.logged: tuple[str, ...] = ()  # the names of what the last step logged
        self._net = net or Net()
        self.memory_bytes = memory_bytes or int(available() * SHARE_OF_MEMORY)
        self.validation_onset: Onset | None = None
        self._epoch_losses: dict[int, float] = {}
        self._losses: deque[float] = deque(maxlen=SERIES)
        self._callbacks = tuple(callbacks)
        self._rates_change = any(_has_batch_hooks(callback) for callback in callbacks)
        self._store, self._resume = store, resume
        self._shelf = Shelf(self.memory_bytes // 2, store, durable)
        self._executions: list[Execution] = []
        self._bytes_of_an_execution = 0
        self._first_batch: Any = None
        self._rates: tuple[tuple[Any, Any], ...] = ()
        self._step: RecordingStep | None = None
        self._beginning: Beginning | None = None
        self._during_first = ExitStack()
        self._keeping, self._verifying = Pace(KEEPING), Pace(VERIFYING)
        self._epoch = 0
        self._done = 0  # steps of the epoch
        self._steps_per_epoch: int | None = None
        self._total = 0
        self._unverified = False
        self._sum = 0.0  # of the epoch's losses, as Keras' running mean tells it
        self._running_mean: bool | None = None  # whether it does: a training step of the user's own may not
        self._kept, self._loss_at = 0, dict[int, float]()  # steps before the newest snapshot; the loss in the step after each
        self._usual = 0.0  # seconds of a step
        self._ticked = 0.0
        self._just_kept = False
        self._taken, self._seconds, self._peak = 0, 0.0, 0

    @_under_the_net
    def attach(self, model: Any) -> None:
        """Make `model` hand out its batches; its compiled step stays Keras' own."""
        if recordable(model):
            installed = model.train_function
            self._step = installed if isinstance(installed, RecordingStep) else RecordingStep(model)
            self._step.listener = self
            model.train_function = self._step

    def refused(self, error: BaseException) -> Nonfinite | None:
        """Return the incident of a step that TensorFlow refused for a label without a class; None for any other error."""
        if not isinstance(error, tf.errors.InvalidArgumentError) or not refuses_label(error):
            return None
        self._begun()
        return (
            Nonfinite(Onset(self._epoch + 1, self._done + 1), "the labels", refused=refused_label(error))
            if self._shelf.snapshots
            else None
        )

    def detach(self) -> None:
        """Stop recording; the traced step stays with the model, so that the next fit need not trace it again."""
        self._during_first.close()
        if self._step is not None:
            self._step.listener = None

    def abandon(self) -> None:
        """Let go of the data of a training that was broken off."""
        if self._step is not None:
            self._step.abandon()

    def recording(self) -> Recording:
        steps = tuple(recorded_steps(self._executions))
        return Recording(
            tuple(self._shelf.snapshots),
            steps,
            self._step,
            self._first_batch,
            losses=tuple(self._losses),
            epoch_losses=dict(self._epoch_losses),
            steps_per_epoch=self._steps_per_epoch,
            loss_at=dict(self._loss_at),
        )

    def usage(self) -> RecorderUsage:
        folder = self._store.folder if self._shelf.on_disk and self._store is not None else None
        return RecorderUsage(self._taken, self._peak, self.memory_bytes, self._seconds, folder)

    @property
    def total_steps(self) -> int:
        return self._total

    @_under_the_net
    def before_execution(self, iterator: Any) -> None:
        """Take the initial snapshot, once the model has its variables, and later ones when they are due."""
        if not self._shelf.snapshots:
            prepared = self._step is not None and self._step.prepare(iterator)
            if self._step is not None and not prepared and self._resume is not None:
                self._step.build(iterator)
            if prepared or self._resume is not None:
                self._begin()
            else:
                self._wait_for_variables()
        elif self._full() or self._keeping.due(time.perf_counter()) or (self._done == 0 and self._keeping.cost < CHEAP):
            self._keep()
        if self._rates_change or self._done == 0:
            held = (learning_rate_of(base(optimizer)) for optimizer in optimizers(self.model))
            self._rates = tuple((rate, read(rate)) for rate in held if isinstance(rate, keras.Variable))
        else:
            self._rates = ()

    @_under_the_net
    def drawn(self, batches: Drawn) -> None:
        """Hold the batches of an execution by reference."""
        self._begun()
        self._executions.append(Execution(self._epoch, self._done + 1, self._rates, batches))
        if self._first_batch is None:
            self._first_batch = whole(batches.first)
        count = len(self._executions)
        if count & (count - 1) == 0:  # the batches of one source are about alike: some of them are measured
            self._bytes_of_an_execution = max(self._bytes_of_an_execution, batches.count * batch_bytes(batches.first))

    @_under_the_net
    def on_epoch_begin(self, epoch, logs=None):
        self._epoch, self._done, self._sum = epoch, 0, 0.0

    @_under_the_net
    def on_train_batch_begin(self, batch, logs=None):
        if self._step is None:
            self.before_execution(None)

    @_under_the_net
    def on_train_batch_end(self, batch, logs=None):
        self._begun()
        steps, now = batch + 1 - self._done, time.perf_counter()
        self._done += steps
        self._total += steps
        self._unverified = True
        self._time(steps, now)
        self.logged = tuple(logs or ())
        loss = loss_of(logs)
        if loss is None:
            return
        if not math.isfinite(loss):
            self._loss_at.setdefault(self._kept, math.inf)
            raise self._nonfinite("the loss", logged=True)
        if self._running_mean is None and self._done > 1:
            self._running_mean = is_running_mean(self.model, logs)
        total = loss * self._done
        self._losses.append(loss if self._running_mean is False else (total - self._sum) / steps)
        self._sum = total
        self._loss_at.setdefault(self._kept, self._losses[-1])

    @_under_the_net
    def on_test_begin(self, logs=None):
        self._end_of_epoch()

    @_under_the_net
    def on_epoch_end(self, epoch, logs=None):
        self._end_of_epoch()
        self._steps_per_epoch = self._done
        told = {name: value for name, value in (logs or {}).items() if name != "learning_rate"}
        held = named_loss({name.removeprefix("val_"): value for name, value in told.items() if name.startswith("val_")})
        trained = loss_of({name: value for name, value in told.items() if not name.startswith("val_")})
        self._epoch_losses[epoch] = next((loss for loss in (held, trained) if loss is not None), math.nan)
        if self.validation_onset is None and held is not None and not math.isfinite(held):
            self.validation_onset = self._here()

    @_under_the_net
    def on_train_end(self, logs=None):
        self._verify()

    def _begin(self) -> None:
        if self._resume is not None:
            variables = state_variables(self.model)
            initial, newest = (saved.bound(variables, self._callbacks) for saved in self._resume)
            self._shelf.begin_with(initial, newest)
            restore(replace(newest, callbacks=()))  # callbacks were reminded when the training began, and have gone on since
            self._total = newest.total
        self._keep()

    def _wait_for_variables(self) -> None:
        """Let the first step make what variables are missing; what they began with is the initial state."""
        self._beginning = Beginning(self.model, self._callbacks)
        self._during_first.enter_context(self._beginning.watched())

    def _begun(self) -> None:
        """Keep the initial state, when the first step has made all variables."""
        beginning, self._beginning = self._beginning, None
        if beginning is not None:
            self._during_first.close()
            self._put(beginning.snapshot(self._epoch, self._total), time.perf_counter())

    def _keep(self) -> None:
        """Verify the state and keep it. Raises Nonfinite, and keeps nothing, when it is not finite."""
        begun = time.perf_counter()
        self._put(take(self.model, epoch=self._epoch, step=self._done, total=self._total, callbacks=self._callbacks), begun)

    def _put(self, snapshot: Snapshot | None, begun: float) -> None:
        if snapshot is None:
            raise self._nonfinite(nonfinite_variables(self.model)[0])
        self._peak = max(self._peak, self.nbytes + snapshot.nbytes)
        written = self._shelf.put(snapshot, self._past)
        self._kept = snapshot.total
        self._executions = []
        self._unverified = False
        self._taken += 1
        self._just_kept = self._taken > 1  # the first step after the first snapshot is a slow one anyway
        now = self._ticked = time.perf_counter()
        self._seconds += now - begun
        self._keeping.done(now - begun - written, now)

    def _past(self) -> tuple[dict[str, list[float]], list[int]]:
        """Return history and epochs up to now, those before a kill included."""
        history = getattr(self.model, "history", None)
        return joined(self._resume[1] if self._resume else None, getattr(history, "history", {}), getattr(history, "epoch", []))

    def _verify(self) -> None:
        """Raise Nonfinite when a weight, slot or statistic is."""
        if not self._unverified:
            return
        begun = time.perf_counter()
        if nonfinite_variables(self.model):
            raise self._nonfinite(nonfinite_variables(self.model)[0])
        self._unverified = False
        now = time.perf_counter()
        self._seconds += now - begun
        self._verifying.done(now - begun, now)

    def _end_of_epoch(self) -> None:
        """Before validation and the user's callbacks see the weights: are they finite?"""
        if self._executions:
            last = self._executions[-1]
            surplus = self._done + 1 - last.step - last.drawn.count  # Keras counts the last one as if it were full
            self._done -= surplus
            self._total -= surplus
        if self._verifying.cost < CHEAP or self._verifying.due(time.perf_counter()):
            self._verify()

    def _time(self, steps: int, now: float) -> None:
        """Learn what a step takes, and charge a snapshot for what it costs the step after it, which has to copy."""
        seconds, self._ticked = now - self._ticked, now
        if self._just_kept:
            hidden = max(0.0, seconds - self._usual * steps)
            self._keeping.cost += 0.5 * hidden
            self._seconds += hidden
            self._just_kept = False
        elif self._total > steps:
            self._usual = 0.9 * self._usual + 0.1 * seconds / steps if self._usual else seconds / steps

    def _full(self) -> bool:
        return len(self._executions) * self._bytes_of_an_execution > self.memory_bytes // 2

    @property
    def nbytes(self) -> int:
        """Bytes of memory held: snapshots and batches."""
        return self._shelf.nbytes + len(self._executions) * self._bytes_of_an_execution

    def _nonfinite(self, what: str, *, logged: bool = False) -> Nonfinite:
        """Return what leaves `fit`; it is kept too, since a `fit` of the user's own may swallow it."""
        self.incident = Nonfinite(self._here(), what, logged=logged)
        return self.incident

    def _here(self) -> Onset:
        return Onset(self._epoch + 1, max(self._done, 1))


def _has_batch_hooks(callback: Any) -> bool:
    """Say whether a callback acts between steps, and so may change the learning rate there."""
    hooks = {name: getattr(callback, name) for name in BATCH_HOOKS}
    return any(getattr(hook, "__func__", hook) is not getattr(keras.callbacks.Callback, name) for name, hook in hooks.items())
