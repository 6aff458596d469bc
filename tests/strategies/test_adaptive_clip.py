"""adaptive-clip: the limit follows the median of the gradient's norm, and stays with
the optimizer at the end.
"""

from contextlib import ExitStack

import explosions
import keras
import numpy as np
import pytest

from nanfix.changes.optimizer import AdaptiveClip, OptimizerSettings
from nanfix.changes.optimizer_installer import ADAPTING, Optimizing
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
    assert found == [{"quantile": 0.5, "share": share, "norm": 2.0} for share in (1.0, 0.1)]


def test_does_not_clip_twice_nor_without_a_finite_norm(run):
    assert contract.applies(get(NAME), DIAGNOSIS, run)
    assert not contract.applies(
        get(NAME), DIAGNOSIS, run, Plan().with_change(OptimizerSettings({"clipnorm": 1.0}))
    )
    assert not contract.applies(
        get(NAME), DIAGNOSIS, run, get(NAME).apply(run, Plan(), quantile=0.5, share=1.0, norm=1.0)
    )
    unknown = contract.diagnosis(Cause.EXPLODING_GRADIENT, gradient_norm=None, weight_norm=None)
    assert not contract.applies(get(NAME), unknown, run)


def test_limit_rises_after_a_larger_norm_and_falls_after_a_smaller_one():
    model = explosions.mlp()
    clip = AdaptiveClip(quantile=0.5, share=1.0, norm=2.0)
    with ExitStack() as undo:
        Optimizing(model).install(OptimizerSettings(adaptive_clip=clip), undo)
        rise, clipped = np.exp(0.5 * ADAPTING), model.optimizer._clip_gradients
        # Norm 5 at the limit 2.
        np.testing.assert_allclose(clipped([np.float32([3, 4])])[0], [1.2, 1.6], rtol=1e-6)
        np.testing.assert_allclose(
            clipped([np.float32([3, 4])])[0], np.float32([1.2, 1.6]) * rise, rtol=1e-6
        )
        np.testing.assert_allclose(clipped([np.float32([0.3, 0.4])])[0], [0.3, 0.4], rtol=1e-6)
        np.testing.assert_allclose(
            clipped([np.float32([3, 4])])[0], np.float32([1.2, 1.6]) * rise, rtol=1e-6
        )
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
