"""The flight recorder: verified snapshots and the batches since the newest, kept while
Keras trains.
"""

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import keras
import tensorflow as tf

from nanfix.data.memory import available
from nanfix.model.faults import Net
from nanfix.model.logged_losses import loss_of
from nanfix.model.snapshot import (
    Snapshot,
    nonfinite_variables,
    take,
    take_as_it_is,
)
from nanfix.model.training_step import Drawn, RecordingStep, recordable
from nanfix.recorder._batches import RecordedBatches
from nanfix.recorder._beginning import Beginning
from nanfix.recorder._divergence import Divergence
from nanfix.recorder._hooks import under_the_net
from nanfix.recorder._killed_run import KilledRun, history_of
from nanfix.recorder._losses import LossSeries, sum_is_finite
from nanfix.recorder._retention import Shelf
from nanfix.recorder._timing import RecorderTiming
from nanfix.recorder.recording import (
    DIVERGED,
    Nonfinite,
    RecorderUsage,
    Recording,
    has_diverged,
    refused_label,
    refuses_label,
)
from nanfix.recorder.snapshot_files import Saved, SnapshotStore
from nanfix.records.diagnosis import Onset

# Of the memory that is free when the run begins: a tenth is not missed, and is many
# snapshots of most models.
MEMORY_SHARE = 0.1


class FlightRecorder(keras.callbacks.Callback):
    """Watches one `model.fit`: tests every loss, verifies the state now and then, and
    keeps what a replay needs.

    Raises `Nonfinite` out of `fit` at the first non-finite loss, or at the first verification that
    finds a non-finite weight, optimizer slot or statistic. Snapshots are taken just before a step,
    after all callbacks have had their say. The initial state is always kept, older snapshots are
    thinned geometrically, and all of it stays within `memory_bytes` (by default a tenth of the free
    memory); where two snapshots do not fit, they go to `store`.

    Args:
        callbacks: the user's, whose state belongs to a snapshot.
        memory_bytes: limit for snapshots and batches.
        store: where snapshots on disk are kept; None for never.
        durable: write a snapshot to the store now and then in any case, for a run that
            is killed to go on from.
        resume: the initial and the newest snapshot of such a run.
        net: keeps the recorder's own faults; after one the training goes on without it.
        stop_diverged: leave a training, at its end, that has diverged, too.
    """

    def __init__(
        self,
        callbacks: Sequence[keras.callbacks.Callback] = (),
        memory_bytes: int | None = None,
        store: SnapshotStore | None = None,
        durable: bool = False,
        resume: tuple[Saved, Saved] | None = None,
        net: Net | None = None,
        *,
        stop_diverged: bool = False,
    ):
        super().__init__()
        self.incident: Nonfinite | None = None
        self.failed = False
        self.logged: tuple[str, ...] = ()  # the names of what the last step logged
        self.memory_bytes = memory_bytes or int(available() * MEMORY_SHARE)
        self.validation_onset: Onset | None = None
        self.total_steps = 0
        self._net = net or Net()
        self._callbacks = tuple(callbacks)
        self._store = store
        self._resume = None if resume is None else KilledRun(*resume)
        # Half of the memory is for snapshots, half for batches.
        self._shelf = Shelf(self.memory_bytes // 2, store, durable)
        self._batches = RecordedBatches(self._callbacks)
        self._losses = LossSeries()
        self._timing = RecorderTiming()
        self._divergence = Divergence(active=stop_diverged)
        self._step: RecordingStep | None = None
        self._beginning: Beginning | None = None
        self._during_first = ExitStack()
        self._epoch = 0
        self._done = 0  # steps of the epoch
        self._steps_per_epoch: int | None = None
        self._unverified = False
        self._snapshot_total = 0  # steps before the newest snapshot
        self._snapshots_taken = 0
        self._peak_bytes = 0

    @under_the_net
    def attach(self, model: Any) -> None:
        """Make `model` hand out its batches; its compiled step stays Keras' own."""
        if recordable(model):
            installed = model.train_function
            self._step = installed if isinstance(installed, RecordingStep) else RecordingStep(model)
            self._step.listener = self
            model.train_function = self._step

    def refused(self, error: BaseException) -> Nonfinite | None:
        """Return the incident of a step that TensorFlow refused for a label without a class.

        None for any other error.
        """
        if not isinstance(error, tf.errors.InvalidArgumentError) or not refuses_label(error):
            return None
        self._begun()
        if not self._shelf.snapshots:
            return None
        onset = Onset(self._epoch + 1, self._done + 1)
        return Nonfinite(onset, "the labels", refused=refused_label(error))

    def detach(self) -> None:
        """Stop recording; the traced step stays with the model, so that the next fit
        need not trace it again.
        """
        self._during_first.close()
        if self._step is not None:
            self._step.listener = None

    def abandon(self) -> None:
        """Let go of the data of a training that was broken off."""
        if self._step is not None:
            self._step.abandon()

    def recording(self, *, steps: bool = True) -> Recording:
        """Return what was recorded; without `steps` the batches need not be unpacked."""
        return Recording(
            snapshots=tuple(self._shelf.snapshots),
            step_of_keras=self._step,
            **self._batches.recorded(steps=steps),
            losses=tuple(self._losses.steps),
            epoch_losses=dict(self._losses.epochs),
            steps_per_epoch=self._steps_per_epoch,
            loss_at=dict(self._losses.at_snapshots),
            ceiling=self._divergence.ceiling,
        )

    def usage(self) -> RecorderUsage:
        folder = self._store.folder if self._shelf.on_disk and self._store is not None else None
        return RecorderUsage(
            snapshots=self._snapshots_taken,
            peak_bytes=self._peak_bytes,
            memory_bytes=self.memory_bytes,
            seconds=self._timing.seconds,
            folder=folder,
        )

    @under_the_net
    def before_execution(self, iterator: Iterator[Any]) -> None:
        """Take the initial snapshot, once the model has its variables, and later ones
        when they are due.

        None is taken of what a callback has just set to NaN: the step fails of it, and its replay
        is to fail, too.
        """
        begins = not self._shelf.snapshots
        if begins:
            prepared = self._step is not None and self._step.prepare(iterator)
            if self._step is not None and not prepared and self._resume is not None:
                self._step.build(iterator)
            if prepared or self._resume is not None:
                self._begin()
            else:
                self._wait_for_variables()
        assert self.model is not None
        self._batches.read_settings(self.model, self.total_steps, epoch_begins=self._done == 0)
        if not begins and self._snapshot_due() and self._batches.set_finite:
            self._keep()

    @under_the_net
    def drawn(self, batches: Drawn) -> None:
        """Hold the batches of an execution by reference."""
        self._begun()
        if self.model is not None and self._divergence.began is None:
            self._batches.add(self.model, batches, epoch=self._epoch, step=self._done + 1)

    @under_the_net
    def on_epoch_begin(self, epoch, logs=None):
        self._epoch, self._done = epoch, 0
        self._losses.begin_epoch()

    @under_the_net
    def on_train_batch_begin(self, batch, logs=None):
        if self._step is None:
            self.before_execution(None)

    @under_the_net
    def on_train_batch_end(self, batch, logs=None):
        self._begun()
        steps = batch + 1 - self._done
        self._timing.stepped(steps, first=self.total_steps == 0)
        self._done += steps
        self.total_steps += steps
        self._unverified = True
        self.logged = tuple(logs or ())
        loss = loss_of(logs)
        if loss is None:
            return
        if not math.isfinite(loss):
            self._losses.add_nonfinite(self._snapshot_total)
            raise self._nonfinite("the loss", logged=True)
        assert self.model is not None
        self._losses.add(
            loss,
            self.model,
            logs,
            done=self._done,
            steps=steps,
            snapshot=self._snapshot_total,
        )
        if self._divergence.active:
            self._divergence.see(self._losses, self._here(), self.total_steps)

    @under_the_net
    def on_test_begin(self, logs=None):
        self._end_of_epoch()

    @under_the_net
    def on_epoch_end(self, epoch, logs=None):
        self._end_of_epoch()
        self._steps_per_epoch = self._done
        validation_loss = self._losses.end_epoch(epoch, logs)
        ruined = validation_loss is not None and not math.isfinite(validation_loss)
        if ruined and self.validation_onset is None:
            self.validation_onset = self._here()

    @under_the_net
    def on_train_end(self, logs=None):
        self._verify()
        began = self._divergence.began
        if began is not None and has_diverged(self.recording(steps=False), self.model):
            self.total_steps = began.total
            self.incident = Nonfinite(began.at, "the loss", happened=DIVERGED)
            raise self.incident

    def _begin(self) -> None:
        if self._resume is not None:
            assert self.model is not None
            self.total_steps = self._resume.put_back(self.model, self._callbacks, self._shelf)
        self._keep()

    def _wait_for_variables(self) -> None:
        """Let the first step make what variables are missing; what they began with is
        the initial state.
        """
        self._beginning = Beginning(self.model, self._callbacks)
        self._during_first.enter_context(self._beginning.watched())

    def _begun(self) -> None:
        """Keep the initial state, when the first step has made all variables."""
        beginning, self._beginning = self._beginning, None
        if beginning is not None:
            self._during_first.close()
            self._put(beginning.snapshot(self._epoch, self.total_steps), time.perf_counter())

    def _keep(self) -> None:
        """Keep the state. Raises Nonfinite where it is not finite, unless it is the first."""
        begun = time.perf_counter()
        if self._shelf.snapshots and not sum_is_finite(self.model):
            raise self._nonfinite("the loss")
        snapshot = (take if self._shelf.snapshots else partial(take_as_it_is, initial=True))(
            self.model,
            epoch=self._epoch,
            step=self._done,
            total=self.total_steps,
            callbacks=self._callbacks,
        )
        self._put(snapshot, begun)

    def _put(self, snapshot: Snapshot | None, begun: float) -> None:
        if snapshot is None:
            raise self._nonfinite(nonfinite_variables(self.model)[0])
        self._peak_bytes = max(self._peak_bytes, self.nbytes + snapshot.nbytes)
        written = self._shelf.put(snapshot, self._history)
        self._batches.clear()
        self._snapshot_total = snapshot.total
        self._unverified = False
        self._timing.snapshot_taken(begun, written, first=self._snapshots_taken == 0)
        self._snapshots_taken += 1

    def _history(self) -> tuple[dict[str, list[float]], list[int]]:
        return history_of(self.model, self._resume)

    def _verify(self) -> None:
        """Raise Nonfinite when a weight, slot or statistic is."""
        if not self._unverified:
            return
        begun = time.perf_counter()
        if nonfinite_variables(self.model):
            raise self._nonfinite(nonfinite_variables(self.model)[0])
        self._unverified = False
        self._timing.checked(begun)

    def _end_of_epoch(self) -> None:
        """Before validation and the user's callbacks see the weights: are they finite?"""
        drawn = self._batches.steps_of_the_epoch
        if drawn is not None and self._divergence.began is None:
            surplus = self._done - drawn  # Keras counts the last execution as if it were full
            self._done -= surplus
            self.total_steps -= surplus
        if self._timing.check_due():
            self._verify()

    def _snapshot_due(self) -> bool:
        if self._divergence.began is not None or self._divergence.recovered():
            # Nothing takes the place of how it diverged; after that, batches are missing.
            return self._divergence.began is None
        full = self._batches.nbytes > self.memory_bytes // 2
        return full or self._timing.snapshot_due(epoch_begins=self._done == 0)

    @property
    def nbytes(self) -> int:
        """Bytes of memory that snapshots and batches take."""
        return self._shelf.nbytes + self._batches.nbytes

    def _nonfinite(self, what: str, *, logged: bool = False) -> Nonfinite:
        """Return what leaves `fit`; it is kept too, since a `fit` of the user's own may
        swallow it.
        """
        self.incident = Nonfinite(self._here(), what, logged=logged)
        return self.incident

    def _here(self) -> Onset:
        return Onset(self._epoch + 1, max(self._done, 1))
