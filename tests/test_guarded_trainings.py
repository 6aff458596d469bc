"""Trainings that fail of one operation, through the whole house: it is guarded, and they learn."""

import explosions
import keras
import numpy as np
import tensorflow as tf
from guarding import with_guards_alone
from keras import layers, ops

import nanfix
from nanfix.records.cause import Cause
from nanfix.records.diagnosis import Phase
from nanfix.testing import repairs

NAME = "guard-unsafe-operations"


def share_of_the_target(y, p):
    return ops.mean(ops.abs((y - p) / y), axis=-1)


def shares_of_counts():
    """Relative errors of counts, some of which are 0."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1280, 4)).astype("float32")
    y = rng.poisson(np.exp(0.8 + 0.7 * x[:, :1] - 0.5 * x[:, 1:2])).astype("float32")
    return (
        explosions.mlp(keras.optimizers.Adam(0.01), share_of_the_target),
        x,
        y,
        {**explosions.ARGUMENTS, "epochs": 10},
    )


def test_targets_of_zero_do_not_drown_the_others():
    model, x, y, arguments = shares_of_counts()
    report = nanfix.fit(model, x, y, **arguments)
    assert report.outcome is nanfix.Outcome.REPAIRED and report.fix.edits[0].params["epsilon"] == 0

    def shares(predicted):
        return np.mean(np.abs(y - predicted)[y > 0] / y[y > 0])

    best_constant = min(shares(constant) for constant in np.unique(y))
    assert shares(model.predict(x, verbose=0)) < 0.9 * best_constant


def root_of_symbols():
    """The root is a node of the model itself, in no layer and on no line that runs."""
    x, y = explosions.table()
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4,))
    model = keras.Model(inputs, layers.Dense(1)(ops.sqrt(layers.Dense(16)(inputs))))
    model.compile(keras.optimizers.Adam(0.02), "mse")
    return model, x, y, {**explosions.ARGUMENTS, "epochs": 10}


def test_operation_on_symbolic_tensors_is_named_and_guarded():
    model, x, y, arguments = root_of_symbols()
    report = nanfix.fit(model, x, y, strategies=[NAME], **arguments)
    assert report.outcome is nanfix.Outcome.REPAIRED
    assert report.diagnosis.place.operation == "Sqrt" and report.diagnosis.place.layer.startswith(
        "sqrt"
    )
    assert np.isfinite(model.predict(x, verbose=0)).all()
    assert report.history["val_loss"][-1] < np.var(y)


def test_softmax_over_padding_alone_is_guarded():
    report, *_ = repairs.check_repair(NAME, explosions.attention_to_nothing)
    assert report.fix.edits[0].params["operation"] == "Softmax"


def test_repairs_a_mask_that_multiplies_with_infinity():
    report, *_ = repairs.check_repair(NAME, explosions.mask_by_infinity)
    assert report.fix.edits[0].params["operation"] == "Mul by infinity"
    assert "clip(convert_to_tensor(float('-inf')), -1e+09, 1e+09)" in str(report.fix)


def of_the_measured(y, p):
    """The squared error where a target is known; NaN in a batch where none is."""
    known = tf.logical_not(tf.math.is_nan(y))
    return tf.reduce_mean(tf.square(tf.boolean_mask(y, known) - tf.boolean_mask(p, known)))


def rarely_measured():
    x, y = explosions.table(rows=640)
    rare = np.where(np.arange(640)[:, None] % 160 < 50, y, np.nan).astype("float32")
    inputs = keras.Input((x.shape[1],))
    hidden = layers.Dense(8, "relu")(inputs)
    heads = [layers.Dense(1, name=name)(hidden) for name in ("often", "rarely")]
    model = keras.Model(inputs, heads)
    model.compile(keras.optimizers.Adam(0.01), [of_the_measured, of_the_measured])
    return model, x, [y, rare], {**explosions.ARGUMENTS, "shuffle": False, "epochs": 6}


def test_a_mean_over_no_target_is_zero_in_every_output_that_takes_it():
    model, x, y, arguments = rarely_measured()
    report = nanfix.fit(model, x, y, **arguments)
    (edit,) = report.fix.edits
    assert report.outcome is nanfix.Outcome.REPAIRED and edit.params["operation"] == "Mean"
    assert len(report.trials) <= 4 and report.diagnosis.cause is Cause.EMPTY_REDUCTION
    assert "divide_no_nan(sum(x), size(x))" in str(report.fix)


class OfItsOwn(keras.optimizers.Optimizer):
    """Divides by the root of a mean of squares, which is 0 where no gradient has come yet."""

    def build(self, variables):
        if not self.built:
            super().build(variables)
            self.squares = [self.add_variable_from_reference(v, "square") for v in variables]

    def update_step(self, gradient, variable, learning_rate):
        square = self.squares[self._get_variable_index(variable)]
        self.assign(square, 0.9 * square + 0.1 * ops.square(gradient))
        self.assign_sub(variable, learning_rate * gradient / ops.sqrt(square))


def test_a_division_in_an_optimizer_of_the_users_own_is_guarded():
    x, y = explosions.table()
    x[:, 0] = 0.0  # its weights get no gradient
    report = with_guards_alone(explosions.mlp(OfItsOwn(0.01)), x, y)
    assert report.outcome is nanfix.Outcome.REPAIRED
    assert report.diagnosis.cause is Cause.STEP_DOMAIN
    assert report.diagnosis.place.phase is Phase.UPDATE
