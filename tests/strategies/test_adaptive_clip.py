"""adaptive-clip: the limit follows the mean and spread of the gradient's norm, and stays with the
optimizer at the end.
"""

from contextlib import ExitStack

import explosions
import keras
import numpy as np
import pytest

from nanfix.changes.optimizer import AdaptiveClip, OptimizerSettings
from nanfix.changes.optimizer_installer import FOLLOWING, SPREAD, Optimizing
from nanfix.changes.plan import Plan
from nanfix.private.objects import CLIP_GRADIENTS
from nanfix.records.cause import Cause
from nanfix.remedies.registry import get
from nanfix.testing import contract, repairs

NAME = "adaptive-clip"
DIAGNOSIS = contract.diagnosis(Cause.EXPLODING_GRADIENT)


@pytest.fixture
def run():
    return contract.run_of(explosions.mlp(), *explosions.table(rows=16))


def test_starts_at_the_smaller_of_the_norms(run):
    diagnosis = contract.diagnosis(Cause.EXPLODING_GRADIENT, gradient_norm=5.0, weight_norm=2.0)
    found = contract.levels(get(NAME), diagnosis, run)
    assert found == [{"deviations": k, "norm": 2.0} for k in (2.5, 1.0)]


def test_does_not_clip_twice_nor_without_a_finite_norm(run):
    assert contract.applies(get(NAME), DIAGNOSIS, run)
    assert not contract.applies(
        get(NAME), DIAGNOSIS, run, Plan().with_change(OptimizerSettings({"clipnorm": 1.0}))
    )
    assert not contract.applies(
        get(NAME), DIAGNOSIS, run, get(NAME).apply(run, Plan(), deviations=2.5, norm=1.0)
    )
    unknown = contract.diagnosis(Cause.EXPLODING_GRADIENT, gradient_norm=None, weight_norm=None)
    assert not contract.applies(get(NAME), unknown, run)


def test_spikes_are_clipped_and_the_mean_follows_the_rest():
    model = explosions.mlp()
    clip = AdaptiveClip(deviations=2.0, norm=2.0)
    with ExitStack() as undo:
        Optimizing(model).install(OptimizerSettings(adaptive_clip=clip), undo)
        clipped = model.optimizer._clip_gradients

        def norm_of(*gradient):
            return float(np.linalg.norm(clipped([np.float32(gradient)])[0]))

        mean, deviation = 2.0, 2.0 * SPREAD
        assert norm_of(0.0, 2.8) == pytest.approx(2.8)  # 1.6 deviations above the mean
        variance = deviation**2 + FOLLOWING * (0.8**2 - deviation**2)
        mean, deviation = mean + FOLLOWING * 0.8, np.sqrt(variance)
        z = (50.0 - mean) / deviation
        assert norm_of(30.0, 40.0) == pytest.approx(mean + 4.0 / z * deviation, rel=1e-5)
        assert norm_of(300.0, 400.0) < norm_of(30.0, 40.0) < 2.5
        assert np.isnan(norm_of(np.nan, 1.0))
        assert norm_of(0.3, 0.4) == pytest.approx(0.5)
        assert norm_of(0.0, 1e-9) == pytest.approx(1e-9)
    assert CLIP_GRADIENTS not in vars(model.optimizer)


@pytest.mark.soak
def test_repairs_wrong_targets_as_well_as_an_expert():
    def expert(model, x, y, arguments):
        model.compile(keras.optimizers.SGD(0.1, global_clipnorm=1.0), "mse")
        return repairs.trained(model, x, y, arguments)

    report, *_ = repairs.check_repair(NAME, explosions.spikes, expert)
    norm = report.model.optimizer.global_clipnorm
    assert (
        norm
        and report.notes[0]
        == f"The clipping norm ended at {norm:.3g} and stays as global_clipnorm."
    )
