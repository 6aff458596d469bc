"""The microscope: exact onset, operation, layer and line."""

import explosions
import numpy as np
import pytest

from nanfix.data import TrainingData
from nanfix.diagnosis import Phase
from nanfix.replay import replay
from nanfix.snapshot import is_finite, read, restore, state_variables
from nanfix.watch import watch


def seen(build):
    model, x, y, arguments = build()
    watched = watch(model, TrainingData.of(x, y, arguments))
    recording = watched.recorder.recording()
    return model, recording, replay(model, recording, watched.incident.detected)


def brute_force_onset(build):
    """Train batch by batch with Keras alone and look at everything after each."""
    model, x, y, _arguments = build()
    kept = int(len(x) * 0.8)
    for step in range(kept // 16):
        rows = slice(16 * step, 16 * (step + 1))
        loss = model.train_on_batch(x[rows], y[rows])
        loss = loss[0] if isinstance(loss, list) else loss
        if not np.isfinite(loss) or not all(is_finite(read(v)) for v in state_variables(model)):
            return (1, step + 1)
    return None


@pytest.mark.parametrize(
    "build", [explosions.root_of_distance, explosions.missing_cells, explosions.nan_target], ids=lambda build: build.__name__
)
def test_onset_is_exact(build):
    _, _, replayed = seen(build)
    assert (replayed.onset.epoch, replayed.onset.step) == brute_force_onset(build)


def test_place_of_a_logarithm_is_the_line_of_the_users_loss():
    _, _, replayed = seen(explosions.handwritten_log)
    place = replayed.failing.place
    assert place.phase is Phase.LOSS and place.operation == "Log"
    assert place.source is not None and place.source.startswith("explosions.py:")


def test_singular_gradient_is_traced_to_the_forward_operation():
    _, _, replayed = seen(explosions.root_of_distance)
    place = replayed.failing.place
    assert place.phase is Phase.GRADIENT and place.operation == "Sqrt"
    assert place.layer is not None and place.layer.startswith("lambda")


def test_gradient_of_several_operations_is_traced_to_the_one_whose_gradient_it_is():
    _, _, replayed = seen(explosions.angle_of_equals)
    place = replayed.failing.place
    assert place.phase is Phase.GRADIENT and place.operation == "Acos" and place.layer.startswith("angle")
    assert place.source is not None and place.source.startswith("explosions.py:")


def test_update_by_zero_is_seen_in_the_optimizer():
    _, _, replayed = seen(explosions.adam_without_epsilon)
    assert replayed.failing.phase is Phase.UPDATE and replayed.failing.operation == "RealDiv"


def test_overflow_is_seen_with_the_size_of_its_numbers():
    _, _, replayed = seen(explosions.learning_rate)
    assert replayed.failing.magnitude > 1e9
    assert replayed.gradient_norm is not None


def test_replay_leaves_the_state_of_the_newest_snapshot():
    model, recording, _ = seen(explosions.learning_rate)
    after = [np.asarray(v).copy() for v in state_variables(model)]
    restore(recording.newest)
    for variable, value in zip(state_variables(model), after, strict=True):
        np.testing.assert_array_equal(np.asarray(variable), value)
