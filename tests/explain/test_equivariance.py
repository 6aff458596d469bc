"""What the columns of an output are, as its loss shows where they move with the targets."""

import keras
import pytest
import tensorflow as tf

from nanfix.changes.maps import LOCATION, moves
from nanfix.explain.equivariance import equivariance


def of_log_variance(y, p):
    mean, spread = p[:, :1], p[:, 1:]
    return tf.reduce_mean(0.5 * (spread + tf.square(y - mean) / tf.exp(spread)))


def of_deviation(y, p):
    spread = tf.clip_by_value(p[:, :1], 1e-6, 1e6)  # the mean is the second
    return tf.reduce_mean(tf.math.log(spread) + 0.5 * tf.square((y - p[:, 1:]) / spread))


def of_precision(y, p):
    return tf.reduce_mean(-0.5 * tf.math.log(p[:, 1:]) + 0.5 * p[:, 1:] * tf.square(y - p[:, :1]))


def laplace(y, p):
    return tf.reduce_mean(tf.abs(y - p[:, :1]) * tf.exp(-p[:, 1:]) + p[:, 1:])


def student(y, p):
    z, free = (y - p[:, :1]) / p[:, 1:2], tf.math.softplus(p[:, 2:]) + 2
    gammas = tf.math.lgamma((free + 1) / 2) - tf.math.lgamma(free / 2)
    tails = 0.5 * (free + 1) * tf.math.log1p(tf.square(z) / free) + 0.5 * tf.math.log(free)
    return tf.reduce_mean(tf.math.log(p[:, 1:2]) + tails - gammas)


def pinball(y, p):
    shares = tf.constant([0.1, 0.5, 0.9])
    return tf.reduce_mean(tf.maximum(shares * (y - p), (shares - 1) * (y - p)))


def rmse(y, p):
    return tf.sqrt(tf.reduce_mean(tf.square(y - p)))


def mixture(y, p):
    shares, means, spreads = tf.split(p, 3, axis=1)
    logs = tf.nn.log_softmax(shares) - spreads - 0.5 * tf.square((y - means) / tf.exp(spreads))
    return -tf.reduce_mean(tf.reduce_logsumexp(logs, axis=1))


def unexplained(y, p):
    return tf.reduce_sum(tf.square(y - p)) / tf.reduce_sum(tf.square(y - tf.reduce_mean(y)))


def of_logarithms(y, p):
    return tf.reduce_mean(tf.square(tf.math.log1p(tf.nn.relu(y)) - tf.math.log1p(tf.nn.relu(p))))


@pytest.mark.parametrize(
    ("loss", "shape", "degree", "columns"),
    [
        (of_log_variance, (2,), 0, (LOCATION, "log-variance")),
        (of_deviation, (2,), 0, ("scale", LOCATION)),
        (of_precision, (2,), 0, (LOCATION, "precision")),
        (laplace, (2,), 0, (LOCATION, "log-scale")),
        (student, (3,), 0, (LOCATION, "scale", "fixed")),
        (pinball, (3,), 1, (LOCATION,) * 3),
        (rmse, (1,), 1, (LOCATION,)),
        (keras.losses.MeanSquaredError(), (5, 1), 2, (LOCATION,)),
        (unexplained, (1,), 0, (LOCATION,)),
        (of_logarithms, (1,), 0, ()),
        ("poisson", (1,), 0, ()),
        ("binary_crossentropy", (1,), 0, ()),
        (lambda y, p: tf.matmul(y, p), (1,), 0, ()),
        (rmse, (9,), 1, (LOCATION,) * 9),
        (mixture, (6,), 0, ("fixed",) * 2 + (LOCATION,) * 2 + ("log-scale",) * 2),
        (mixture, (34,), 0, ()),
    ],
)
def test_columns_are_known_by_how_the_loss_moves(loss, shape, degree, columns):
    targets = shape if len(shape) > 1 else (1,)
    found = equivariance(loss, shape, targets, (50.0,), (20.0,))
    assert (found.power, found.columns) == (degree, columns) and not any(found.of)


def side_by_side(y, p):
    mean, spread = p[:, :2], p[:, 2:]
    return tf.reduce_mean(0.5 * spread + 0.5 * tf.square(y - mean) * tf.exp(-spread))


def in_turns(y, p):
    p = tf.reshape(p, (-1, 3, 2))
    return tf.reduce_mean(tf.math.log(p[..., 0]) + tf.abs(y - p[..., 1]) / p[..., 0])


@pytest.mark.parametrize(
    ("loss", "width", "columns", "of"),
    [
        (side_by_side, 4, (LOCATION,) * 2 + ("log-variance",) * 2, (0, 1, 0, 1)),
        (in_turns, 6, ("scale", LOCATION) * 3, (0, 0, 1, 1, 2, 2)),
    ],
)
def test_columns_go_with_those_of_several_targets(loss, width, columns, of):
    centers, scales = (50.0, -3.0, 0.2)[: width // 2], (20.0, 4e3, 0.1)[: width // 2]
    found = equivariance(loss, (width,), (width // 2,), centers, scales)
    assert (found.power, found.columns, found.of) == (0, columns, of)
    # One scale for all of them leaves the loss as it was, too.
    alike = equivariance(loss, (width,), (width // 2,), (50.0,), (20.0,))
    assert alike.columns == columns and not any(alike.of)


def test_a_column_that_the_loss_clips_does_not_move_beyond():
    def clipped(y, p):
        return of_log_variance(y, tf.concat([p[:, :1], tf.clip_by_value(p[:, 1:], -10, 10)], 1))

    near, far = (equivariance(clipped, (2,), (1,), (0.0,), (scale,)) for scale in (20.0, 3e4))
    assert near.columns == (LOCATION, "log-variance") and far.columns == ()


def test_columns_move_with_the_targets():
    of_one = moves((LOCATION, "scale", "log-precision"), (0, 0, 0), (5.0,), (1.0,))
    assert of_one == ((5.0, 0.0, -0.0), (1, 1, 1))
    of_two = moves((LOCATION, "precision"), (1, 0), (5.0, 7.0), (2.0, 3.0))
    assert of_two == ((7.0, 0), (3.0, 0.25))
