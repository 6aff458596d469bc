"""Runs for want of scaled, whole or rightly labelled data."""

import keras
import numpy as np
import tensorflow as tf
from _catalogue import (
    ANY_KIND,
    BATCH,
    ROWS,
    TRAINED,
    normalization,
    of_faults,
    remedy,
    some,
    split,
)
from _faults import FAULTS
from keras import layers, ops

REGRESSION = ("regression",)
DESCENT = {"task": REGRESSION, "optimizer": ("SGD",)}
CODES = (-999.0, -9999.0, 99999.0, 1e9, 1e20)

of_faults("drop-invalid-labels", "labels_out_of_range", kind=ANY_KIND)


@remedy("scale-inputs", **FAULTS["unscaled_inputs"].wanted)
def raw_columns(whole, rng):
    FAULTS["unscaled_inputs"].put(whole, rng)
    run = split(whole)
    run.expert.front.append(lambda: normalization(run.expert.x))
    return run


class LayerByLayer(keras.Model):
    """Trains by a step of its own that calls its layers one after the other, and not the model."""

    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            predicted = x
            for layer in self.layers[1:]:
                predicted = layer(predicted)
            loss = self.compute_loss(x, y, predicted)
        weights = self.trainable_variables
        self.optimizer.apply(tape.gradient(loss, weights), weights)
        return {"loss": loss}


@remedy("scale-data", **FAULTS["unscaled_inputs"].wanted)
def raw_columns_past_the_call(whole, rng):
    whole.of = LayerByLayer
    return raw_columns(whole, rng)


@remedy("scale-targets", kind=("mlp", "convolutional"), **FAULTS["unscaled_targets"].wanted)
def raw_targets(whole, rng):
    FAULTS["unscaled_targets"].put(whole, rng)
    run = split(whole)
    center, scale = run.expert.y.mean(), run.expert.y.std()
    run.expert.y = (run.expert.y - center) / scale
    run.undo = lambda predicted: center + scale * predicted
    return run


@remedy("impute-nonfinite")
def missing_cells(whole, rng):
    run = split(whole)
    known = rng.random(run.plain.x.shape) > rng.uniform(0.005, 0.05)
    run.plain.x[~known] = np.nan
    run.expert.x = _filled(run.plain.x, known)
    return run


@remedy("impute-nonfinite")
def beyond_every_number(whole, rng):
    """What is beyond an end of a column is inf, as of a log of 0 or a division by nothing."""
    run = split(whole)
    end, share = rng.choice([-1.0, 1.0]), rng.uniform(0.01, 0.05)
    column = run.plain.x[:, int(rng.integers(whole.x.shape[1]))]
    last = end * np.quantile(end * column, 1.0 - share)
    column[end * column > end * last] = end * np.inf
    run.expert.x = np.where(np.isfinite(run.plain.x), run.plain.x, last).astype("float32")
    return run


@remedy("impute-codes", **DESCENT)
def codes_for_missing_cells(whole, rng):
    run = split(whole)
    known = np.ones(run.plain.x.shape, bool)
    column = int(rng.integers(known.shape[1]))
    known[rng.random(ROWS) < rng.uniform(0.05, 0.15), column] = False
    run.plain.x[~known] = CODES[rng.integers(len(CODES))]
    run.expert.x = _filled(run.plain.x, known)
    return run


def _filled(x, known):
    """Return the columns with the median of what is known in the place of what is not."""
    medians = [np.median(x[known[:, i], i]) for i in range(x.shape[1])]
    return np.where(known, x, np.float32(medians)).astype("float32")


@remedy("drop-nonfinite-rows", task=("regression", "binary"), kind=ANY_KIND)
def missing_targets(whole, rng):
    run = split(whole)
    missing = some(rng, 1, 12)
    run.plain.y[missing] = np.nan
    _without(run.expert, missing)
    return run


@remedy("drop-nonfinite-rows", kind=ANY_KIND)
def missing_weights(whole, rng):
    run = split(whole)
    missing = some(rng, 1, 20)
    weights = rng.uniform(0.5, 2.0, size=ROWS).astype("float32")
    run.expert.weights = weights.copy()
    weights[missing] = np.nan
    run.plain.weights = weights
    _without(run.expert, missing)
    return run


@remedy("finite-loss-weights", task=("multiclass",), kind=ANY_KIND)
def class_of_no_count(whole, rng):
    """Weights n / (k * count) of classes, of which one was counted in other data, and not once."""
    run = split(whole)
    y = whole.y[:TRAINED] if whole.y.ndim == 1 else whole.y[:TRAINED].argmax(axis=1)
    found, counts = np.unique(y, return_counts=True)
    weights = {int(k): TRAINED / (len(found) * n) for k, n in zip(found, counts, strict=True)}
    run.expert.arguments["class_weight"] = weights
    run.plain.arguments["class_weight"] = {**weights, int(rng.choice(found)): np.inf}
    return run


@remedy("drop-outlier-rows", **FAULTS["typing_error_in_inputs"].wanted)
def typing_error(whole, rng):
    run = split(whole)
    wrong = some(rng, 1, 4)
    columns = rng.integers(whole.x.shape[1], size=len(wrong))
    run.plain.x[wrong, columns] = 10.0 ** rng.uniform(5.0, 9.0, size=len(wrong))
    _without(run.expert, wrong)
    return run


def _without(recipe, rows):
    """Leave rows out of the training, and nothing of what is held back for validation."""
    held = slice(TRAINED, ROWS)
    recipe.arguments.pop("validation_split")
    recipe.arguments["validation_data"] = recipe.x[held], recipe.y[held]
    kept = np.setdiff1d(np.arange(TRAINED), rows)
    recipe.x, recipe.y = recipe.x[kept], recipe.y[kept]
    recipe.weights = None if recipe.weights is None else recipe.weights[kept]


@remedy("mask-unknown-targets", task=REGRESSION)
def one_of_two_targets(whole, rng):
    """Most rows have only one of their two targets."""
    second = np.tanh(whole.x @ rng.normal(size=(whole.x.shape[1], 1)))
    whole.y = np.concatenate([whole.y, second], axis=1).astype("float32")
    run = split(whole)
    known = rng.random((ROWS, 2)) < rng.uniform(0.4, 0.6)
    known[~known.any(axis=1), 0] = True
    known[TRAINED:] = True
    run.plain.y = np.where(known, run.plain.y, [np.nan, 1e20][rng.integers(2)]).astype("float32")
    run.expert.y = np.where(known, run.plain.y, UNKNOWN).astype("float32")
    run.expert.loss = known_error
    return run


UNKNOWN = -1e6


def known_error(y_true, y_pred):
    known = ops.cast(y_true > UNKNOWN, "float32")
    return ops.mean(known * ops.square(y_true * known - y_pred), axis=-1)


@remedy("rescale-labels", task=("binary",), optimizer=("SGD",), depth=(1, 2, 3))
def masks_of_bytes(whole, rng):
    whole.rate, whole.arguments["epochs"] = rng.uniform(0.2, 0.5), 30
    run = split(whole)
    run.plain.y = run.plain.y * np.float32([255.0, 100.0][rng.integers(2)])
    return run


class SampleScale(layers.Layer):
    """Divides by the standard deviation over the batch, with b - 1 in the denominator;
    by a moving one when it predicts.
    """

    def build(self, shape):
        self.moving = self.add_weight(shape=(shape[-1],), initializer="ones", trainable=False)

    def call(self, inputs, training=False):
        if not training:
            return inputs / self.moving
        spread = inputs - ops.mean(inputs, axis=0)
        count = ops.cast(ops.shape(inputs)[0], "float32")
        deviation = ops.sqrt(ops.sum(ops.square(spread), axis=0) / (count - 1.0) + 1e-6)
        self.moving.assign(0.9 * self.moving + 0.1 * ops.stop_gradient(deviation))
        return inputs / deviation


@remedy("drop-incomplete-batch", activation=("tanh", "elu"))
def single_row_left_over(whole, rng):
    whole.front.append(SampleScale)
    run = split(whole)
    rows = 1 + BATCH * int(rng.integers(18, 23))
    for recipe, kept in ((run.plain, rows), (run.expert, rows - 1)):
        recipe.arguments.pop("validation_split")
        recipe.arguments["validation_data"] = recipe.x[TRAINED:], recipe.y[TRAINED:]
        recipe.x, recipe.y = recipe.x[:kept], recipe.y[:kept]
    return run
