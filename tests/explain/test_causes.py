"""From evidence to cause: each small explosion is named for what it is."""

import functools
import inspect
from dataclasses import replace

import explosions
import pytest

from nanfix.api.diagnose import diagnose
from nanfix.explain import incident
from nanfix.explain.microscope import Observation
from nanfix.explain.replay import replay
from nanfix.records.cause import Cause
from nanfix.records.diagnosis import Phase

EXPECTED = {
    explosions.missing_cells: Cause.NONFINITE_INPUT,
    explosions.mask_times_nan: Cause.NONFINITE_INPUT,
    explosions.nan_target: Cause.NONFINITE_TARGET,
    explosions.missing_weights: Cause.NONFINITE_WEIGHT,
    explosions.weight_of_an_uncounted_class: Cause.NONFINITE_LOSS_WEIGHT,
    explosions.weight_of_a_constant_target: Cause.NONFINITE_LOSS_WEIGHT,
    explosions.labels_from_one: Cause.INVALID_LABEL,
    explosions.masks_of_bytes: Cause.INVALID_LABEL,
    explosions.sentinel_values: Cause.OUTLIER,
    explosions.velocity_of_another_training: Cause.STALE_MOMENTS,
    explosions.adapted_to_holes: Cause.RUINED_STATISTICS,
    explosions.critic: Cause.NO_LOWER_BOUND,
    explosions.advantages_as_labels: Cause.NO_LOWER_BOUND,
    explosions.decay_beyond_one: Cause.OPTIMIZER_CONSTANT,
    explosions.lasting_momentum: Cause.OPTIMIZER_CONSTANT,
    explosions.forward_recursion: Cause.LOSS_DOMAIN,
    explosions.attention_to_nothing: Cause.LAYER_DOMAIN,
    explosions.unscaled_inputs: Cause.UNSCALED_INPUT,
    explosions.raw_table_at_a_bold_rate: Cause.LEARNING_RATE,
    # Not what fails of them, a logarithm or an exponential in the loss.
    explosions.likelihood_of_raw_inputs: Cause.UNSCALED_INPUT,
    explosions.logits_of_raw_inputs: Cause.UNSCALED_INPUT,
    explosions.large_targets: Cause.UNSCALED_TARGET,
    explosions.one_large_target_of_two: Cause.UNSCALED_TARGET,
    explosions.columns_of_three_sizes: Cause.UNSCALED_TARGET,
    explosions.overflowing_mean: Cause.UNSCALED_TARGET,
    explosions.learning_rate: Cause.LEARNING_RATE,
    explosions.schedule: Cause.LEARNING_RATE,
    explosions.beyond_the_schedule: Cause.NONFINITE_RATE,
    # A gain of 2 before relu, where it should be the root of 2.
    explosions.deep_gradient: Cause.BAD_INITIALIZATION,
    explosions.steep_waves: Cause.EXPLODING_GRADIENT,
    explosions.linear_throughout: Cause.UNSTABLE_ACTIVATION,
    explosions.relu_before_crossentropy: Cause.UNSTABLE_ACTIVATION,
    explosions.feedback: Cause.UNSTABLE_RECURRENCE,
    explosions.followed_field: Cause.UNSTABLE_RECURRENCE,
    explosions.initialization: Cause.BAD_INITIALIZATION,
    explosions.root_in_the_loss: Cause.LOSS_DOMAIN,
    explosions.falling_precision: Cause.LOSS_DOMAIN,
    explosions.phase_of_silence: Cause.LAYER_DOMAIN,
    explosions.log_in_a_layer: Cause.LAYER_DOMAIN,
    explosions.hole_behind_pooling: Cause.NONFINITE_INPUT,
    explosions.point_of_a_disk: Cause.GRADIENT_SINGULARITY,
    explosions.averaged_weights: Cause.RUINING_CALLBACK,
    explosions.squares_of_squares: Cause.LAYER_DOMAIN,
    explosions.gate_that_is_shut: Cause.STEP_DOMAIN,
    explosions.root_of_distance: Cause.GRADIENT_SINGULARITY,
    explosions.handwritten_log: Cause.LOGITS_BY_HAND,
    explosions.adam_without_epsilon: Cause.OPTIMIZER_CONSTANT,
    explosions.epsilon_lost_in_half_precision: Cause.OPTIMIZER_CONSTANT,
    explosions.half_precision: Cause.REDUCED_PRECISION,
    explosions.constant_feature_without_epsilon: Cause.BATCH_STATISTICS,
    explosions.nothing_but_padding: Cause.EMPTY_REDUCTION,
    explosions.coded_targets: Cause.CODED_TARGET,
    explosions.coded_inputs: Cause.CODED_INPUT,
    explosions.black_frame: Cause.POISON_BATCH,
    explosions.validation_hole: Cause.VALIDATION_ONLY,
    explosions.negative_variance: Cause.INFERENCE_STATISTICS,
    explosions.loaded_in_another_order: Cause.INFERENCE_STATISTICS,
    explosions.log_in_inference: Cause.INFERENCE_ONLY,
    explosions.bias_of_no_share: Cause.NONFINITE_START,
    explosions.prior_of_no_count: Cause.NONFINITE_CONSTANT,
    explosions.small_denominator: Cause.XLA_ONLY,
    # What XLA shows, as it hides nothing, is not its fault.
    explosions.hidden_slope: Cause.GRADIENT_SINGULARITY,
    explosions.no_inverse: Cause.UNKNOWN,
    explosions.log_of_zero_in_half_precision: Cause.LAYER_DOMAIN,
    explosions.small_share_in_half_precision: Cause.REDUCED_PRECISION,
    explosions.small_share_in_both_precisions: Cause.LOSS_DOMAIN,
    explosions.glitch: Cause.TRANSIENT,
    explosions.glitches: Cause.TRANSIENT,
    explosions.foreign_state: Cause.UNKNOWN,
}


MASKED = inspect.getsourcelines(explosions.Masked.call)[1] + 2  # the line of its product
SAID = {
    explosions.mask_times_nan: f"a mask of 0 at holes.py:{MASKED} does not take them out",
    explosions.followed_field: "layer slope is called 40 times in a row",
    explosions.small_denominator: "by XLA the step fails in 5 of 5 runs, without XLA it is finite",
    explosions.no_inverse: "Input is not invertible",
    explosions.log_of_zero_in_half_precision: "in float32 it fails too",
    explosions.small_share_in_half_precision: "in float32 the same step is finite",
    explosions.glitch: "the recorded steps were replayed 3 times and stayed finite",
}


def test_every_cause_has_an_explosion():
    assert set(EXPECTED.values()) == set(Cause)


@functools.cache
def diagnosed(build):
    """Explain an explosion, once for all tests that look at it."""
    model, x, y, arguments = build()
    return diagnose(model, x, y, **arguments)


@pytest.mark.parametrize("build", EXPECTED, ids=lambda build: build.__name__)
def test_first_cause(build):
    diagnosis = diagnosed(build)
    assert diagnosis.cause is EXPECTED[build], str(diagnosis)
    assert len(str(diagnosis).splitlines()) <= 12


def test_what_the_step_came_to_otherwise_is_the_evidence():
    found = {build: diagnosed(build) for build in EXPECTED if build in SAID}
    assert [text for build, text in SAID.items() if text not in str(found[build])] == []


def test_what_only_xla_shows_names_the_line_and_leaves_the_compiler_possible():
    diagnosis = diagnosed(explosions.hidden_slope)
    assert diagnosis.place.operation == "Sqrt" and diagnosis.place.source is not None
    assert diagnosis.findings[1].cause is Cause.XLA_ONLY


def test_a_constant_that_is_not_finite_is_named_with_its_lines():
    diagnosis = diagnosed(explosions.prior_of_no_count)
    assert diagnosis.place.phase is Phase.LOSS
    assert "ops.cast(log_prior" in diagnosis.place.code
    assert "1 -inf, 1 of the 3 numbers of `log_prior`" in str(diagnosis)
    assert "since domains.py" in str(diagnosis) and "log_prior = np.log(" in str(diagnosis)


def test_what_a_step_of_the_users_own_computes_is_said_to_be_there():
    diagnosis = diagnosed(explosions.gate_that_is_shut)
    assert diagnosis.place.phase is Phase.STEP and diagnosis.place.layer is None
    assert "in the training step, operation RealDiv, at domains.py:" in str(diagnosis)


def test_scale_of_inputs_is_among_the_causes_with_its_figure():
    findings = {
        finding.cause: finding for finding in diagnosed(explosions.unscaled_inputs).findings
    }
    assert "root mean square" in findings[Cause.UNSCALED_INPUT].evidence


def test_what_learns_with_one_cause_taken_away_is_marked():
    alone = {f.cause for f in diagnosed(explosions.unscaled_inputs).findings if f.learned}
    assert Cause.UNSCALED_INPUT in alone and Cause.UNSCALED_TARGET not in alone
    assert diagnosed(explosions.learning_rate).findings[0].learned
    assert not any(finding.learned for finding in diagnosed(explosions.missing_cells).findings)


def test_a_single_change_that_learns_comes_before_several_together():
    diagnosis = diagnosed(explosions.raw_table_at_a_bold_rate)
    causes = [finding.cause for finding in diagnosis.findings]
    assert diagnosis.together == 1
    assert set(causes[1:3]) == {Cause.UNSCALED_INPUT, Cause.UNSCALED_TARGET}
    assert "instead of so low a rate, these together: with inputs of unit" in str(diagnosis)


def test_rows_with_holes_are_those_of_the_users_data():
    diagnosis = diagnosed(explosions.missing_cells)
    assert diagnosis.rows == (70, 90) and diagnosis.rows_of == "the data"
    assert diagnosis.place.phase is Phase.INPUT
    assert "1 NaN and 1 inf in 2 of 128 rows" in diagnosis.findings[0].evidence


def test_rows_with_nan_targets():
    assert diagnosed(explosions.nan_target).rows == (5,)


def test_learning_rate_is_not_told_where_the_steps_fail_without_one():
    told = str(diagnosed(explosions.log_in_a_layer))
    assert (
        "with a learning rate of 0 the steps fail all the same" in told and "too high" not in told
    )


def test_a_loss_that_has_fallen_for_ever_is_named_where_the_failing_step_shows_nothing(monkeypatch):
    """Close to overflow the order in which threads add decides: run again, a step may be finite."""

    def shows_nothing(*args):
        seen = replay(*args)
        return replace(seen, failing=Observation(), again=(4, 5), loss_trend=(), strays=True)

    monkeypatch.setattr(incident, "replay", shows_nothing)
    model, x, y, arguments = explosions.critic()
    assert diagnose(model, x, y, **arguments).findings[0].cause is Cause.NO_LOWER_BOUND
