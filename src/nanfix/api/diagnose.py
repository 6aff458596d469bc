"""nanfix.diagnose: run a training until it goes non-finite, say why, and leave
everything as it was.
"""

import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nanfix.api._data_lines import with_data_lines
from nanfix.api.preconditions import check_model
from nanfix.data.training_data import TrainingData
from nanfix.explain.incident import Incident, rolled_back
from nanfix.model.faults import Net
from nanfix.model.object_state import plain_state, remember
from nanfix.model.quiet import quiet
from nanfix.model.randomness import preserved_randomness
from nanfix.model.snapshot import restore
from nanfix.private.objects import COMPILED, INITIAL_EPOCH
from nanfix.recorder.callbacks import user_callbacks, without_writers
from nanfix.recorder.snapshot_files import SnapshotStore
from nanfix.recorder.watch import Watched, Watching, watch
from nanfix.records.diagnosis import Diagnosis
from nanfix.search.validation_repair import ValidationIncident

if TYPE_CHECKING:
    import keras

FINITE = "Training stayed finite."
MARKS = (*COMPILED, "history", "stop_training", INITIAL_EPOCH)


def diagnose(
    model: "keras.Model", x: Any = None, y: Any = None, **fit_kwargs: Any
) -> Diagnosis | None:
    """Explain why `model.fit(x, y, **fit_kwargs)` goes non-finite, and change nothing.

    The training is run until it fails, or to its end, and everything is put back: weights,
    optimizer, random state, callbacks. Callbacks that write files are left out. What cannot be put
    back: a model that is not built is built, and a Python generator is drawn from.

    Args:
        model: a compiled Keras model.
        x, y, **fit_kwargs: as `model.fit` takes them.

    Returns:
        The diagnosis, or None when the training and its validation stay finite.

    Raises:
        InputError: the model is not compiled, or the data cannot be trained on.
    """
    check_model(model)
    data = TrainingData.of(x, y, fit_kwargs)
    callbacks = without_writers(user_callbacks(data))
    data = replace(data, arguments={**(data.arguments or {}), "callbacks": callbacks})
    marks = {name: getattr(model, name, None) for name in MARKS}
    states = [(callback, plain_state(callback)) for callback in callbacks]
    watched = None
    with preserved_randomness(), tempfile.TemporaryDirectory(prefix="nanfix-") as folder:
        try:
            watching = Watching(store=SnapshotStore(Path(folder)))
            watched = watch(model, data, watching)
            found = explained(model, data, watched)
            return with_data_lines(found, sys._getframe(1), diagnose.__name__)
        finally:
            _put_back(watched, data)
            remember(states)
            for name, value in marks.items():
                setattr(model, name, value)


def train_and_explain(
    model: "keras.Model", x: Any = None, y: Any = None, **fit_kwargs: Any
) -> tuple[Watched, Diagnosis | None]:
    """Train as `model.fit` does, and say why when that goes non-finite; a training that
    stays finite is kept.

    Raises:
        InputError: the model is not compiled, or the data cannot be trained on; nothing
            was changed.
    """
    check_model(model)
    data = TrainingData.of(x, y, fit_kwargs)
    watched = watch(model, data)
    with preserved_randomness():
        return watched, explained(model, data, watched)


@quiet()
def explained(model: "keras.Model", data: TrainingData, watched: Watched) -> Diagnosis | None:
    """Return the diagnosis of a training that has been watched; the model is left in a
    finite state.

    Raises:
        NanfixError: nanfix itself has failed.
    """
    net = Net()
    with net.raising("explaining the training"):
        if watched.incident is None:
            incident = ValidationIncident.of(model, data, watched)
            return incident.diagnosis if incident is not None else None
        with rolled_back(watched.recorder.recording()):
            return Incident(model, data, watched, Watching(net=net), seed=0).diagnose()


def _put_back(watched: Watched | None, data: TrainingData) -> None:
    snapshots = watched.recorder.recording().snapshots if watched is not None else ()
    if snapshots:
        restore(snapshots[0])
    data.rewind(0)
