"""Trainings composed at random of the table's parts: no fault of nanfix, a finite model, and where
that is so, Keras' own.
"""

import os
import subprocess
import sys

import keras
import pytest
from hypothesis import HealthCheck, Phase, assume, given, seed, settings
from legal import harness
from legal.composed import RECIPES, composed

from nanfix import Budget

SOAK = bool(os.environ.get("NANFIX_SOAK"))
PARTS, EXAMPLES = (20, 50) if SOAK else (1, 20)
# Set in a process of a single part. What XLA and TensorFlow compile stays until a process ends, and
# after some 600 trainings in one TensorFlow crashed.
ALONE = "NANFIX_COMPOSED_ALONE"
DISCARDS = 0.5  # the share of recipes, at most, that may be none that Keras trains on


@pytest.mark.parametrize("part", range(PARTS))
def test_composed_trainings(part):
    if not SOAK or os.environ.get(ALONE):
        run_part(part)
        return
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    command.append(f"{__file__}::{test_composed_trainings.__name__}[{part}]")
    ended = subprocess.run(
        command, env={**os.environ, ALONE: "1"}, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr


def run_part(part):
    tried = []

    @seed(part)
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        phases=[Phase.generate],  # a recipe is short as it is
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(RECIPES)
    def holds(recipe):
        training = composed(recipe)
        try:
            plain = by_keras(training)
            tried.append(plain is not None)
            assume(plain is not None)
            harness.check_composed(
                training, plain, strategies=recipe.strategies, budget=Budget(trials=2)
            )
        finally:
            keras.config.set_dtype_policy("float32")
            keras.config.set_floatx("float32")

    holds()
    assert sum(tried) >= (1.0 - DISCARDS) * len(tried), (
        f"{sum(tried)} of {len(tried)} recipes are legal"
    )


def by_keras(training):
    """Return the explosive training run by Keras, None where Keras cannot."""
    try:
        return harness.run(training, True)
    except Exception:
        return None
