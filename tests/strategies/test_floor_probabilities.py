"""floor-probabilities: where it applies, and a policy that learns from what was punished, too."""

import explosions
import keras
import numpy as np
import pytest
from keras import layers

from nanfix.changes.behind_outputs import BehindOutputs
from nanfix.changes.maps import Mixed
from nanfix.changes.plan import Plan
from nanfix.records.cause import Cause
from nanfix.remedies.registry import get
from nanfix.testing import contract, repairs

NAME = "floor-probabilities"
DIAGNOSIS = contract.diagnosis(Cause.NO_LOWER_BOUND)
LABELS = np.float32([[1, 0, 0], [0, -1, 0], [0, 0, 1]])


def given(labels=LABELS, loss="categorical_crossentropy"):
    model = explosions.mlp(loss=loss, outputs=3, last="softmax")
    return contract.run_of(model, np.zeros((len(labels), 4), "float32"), labels)


def situations():
    """Return a run for tests/test_contract.py."""
    return {"advantages": given()}


def test_it_mixes_an_even_guess_into_the_probabilities():
    run = given()
    (found,) = contract.levels(get(NAME), DIAGNOSIS, run)
    plan = get(NAME).apply(run, Plan(), **found)
    assert plan.of(BehindOutputs).activations == {"output": Mixed(0.1, 3)}
    assert get(NAME).explain(found) == (
        "Mix 10 % of an even guess into the probabilities, so that what a label below 0 pays has "
        "an end."
    )


@pytest.mark.parametrize(
    ("run", "why"),
    [
        (lambda: given(np.abs(LABELS)), "no crossentropy is given labels below 0"),
        (lambda: given(loss="mse"), "no crossentropy is given labels below 0"),
        (lambda: given(-np.abs(LABELS)), "labels below 0 far outweigh the others"),
        (
            lambda: given(loss=keras.losses.CategoricalCrossentropy(from_logits=True)),
            "the loss takes logits",
        ),
    ],
    ids=["above 0", "another loss", "outweighed", "logits"],
)
def test_it_is_refused_where_it_does_not_help(run, why):
    assert why in get(NAME).refusal(DIAGNOSIS, run(), Plan())


def test_a_policy_learns_as_well_as_with_a_floor_of_an_expert(tmp_path):
    def floored(y, p):
        log_p = keras.ops.log(keras.ops.clip(p, 1e-7, 1.0))
        least = np.log(0.02).astype("float32")
        log_p = keras.ops.where(y < 0, keras.ops.maximum(log_p, least), log_p)
        return -keras.ops.sum(y * log_p, axis=-1)

    expert, *rest = explosions.advantages_as_labels()
    expert.compile(keras.optimizers.SGD(0.005), floored)
    repairs.trained(expert, *rest)
    report, x, held = repairs.check_repair(NAME, explosions.advantages_as_labels)

    def reward(model):
        return float(np.mean(np.sum(held * model.predict(x, verbose=0), axis=-1)))

    assert reward(report.model) > 0.95 * reward(expert) > 0
    assert isinstance(report.model.layers[-1], layers.Rescaling)
    report.model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(again.predict(x, verbose=0), report.model.predict(x, verbose=0))
