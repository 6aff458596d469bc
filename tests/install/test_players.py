"""What the losses of several players are with weights as they were before."""

import modes
import numpy as np
import tensorflow as tf
import twins

from nanfix.install import players
from nanfix.install.players import play
from nanfix.model.snapshot import take_as_it_is


def test_players_and_parts_are_looked_at_and_the_model_is_left_as_it_was():
    model, x, _, arguments = modes.adversaries(modes.adam)
    model.fit(x, **{**arguments, "epochs": 1})
    before = take_as_it_is(model)
    model.fit(x, **{**arguments, "epochs": 2})
    trained = twins.state(model)

    seen = play(model, before, [x[:16], x[16:32]], looked_at=True)

    names = [player.name for player in seen.players]
    assert names == ["generator_optimizer", "discriminator_optimizer"]
    assert [set(told) for told in seen.now] == 2 * [{"d_loss", "g_loss"}]
    for player in seen.players:
        assert player.moved > 0 and player.idle != seen.now and player.idle != seen.untrained
    assert seen.lifeless == []
    for was, now in zip(trained, twins.state(model), strict=True):
        np.testing.assert_array_equal(was, now)

    for layer in model.generator.layers:
        layer.set_weights([0.0 * value for value in layer.get_weights()])
    seen = play(model, before, [x[:16]], looked_at=True)
    assert seen.lifeless == [model.generator.name]


def test_of_what_is_computed_in_a_graph_nothing_is_known():
    """As a guard on a line of a training step computes that line."""
    rows = np.arange(6.0, dtype="float32").reshape(3, 2)
    assert players._varies(tf.constant(rows))
    with tf.Graph().as_default():
        assert not players._varies(tf.constant(rows) / 2.0)
