"""What the user's own code raises, and an interrupt, leave `fit` as they would leave Keras'."""

import traceback

import explosions
import keras
import numpy as np
import pytest
from broken import QUICK, Own, assert_usable, exploding
from parameters import shortened

import nanfix
from nanfix import Outcome


def in_a_layer(after):
    """Return a model with a layer that raises once it has been called so often; it runs
    eagerly, so that it counts.
    """

    class Counting(keras.layers.Layer):
        calls = 0

        def call(self, inputs):
            Counting.calls += 1
            if Counting.calls > after:
                raise Own("no more")
            return inputs

    inputs = keras.Input((4,))
    model = keras.Model(inputs, keras.layers.Dense(1)(Counting()(inputs)))
    model.compile(keras.optimizers.SGD(1e4), "mse", run_eagerly=True)
    return model


@pytest.mark.parametrize("after", shortened([3, 30, 60, 120, 200], [3, 60, 200]))
def test_what_the_users_layer_raises_passes_unchanged(after, under_the_net):
    x, y = explosions.table(64)
    model = in_a_layer(after)
    with pytest.raises(Own, match="no more") as raised:
        for _ in range(20):
            nanfix.fit(model, x, y, epochs=2, verbose=0, throw=False, **QUICK)
    assert "in call" in "".join(traceback.format_tb(raised.tb))
    assert all(np.isfinite(weight).all() for weight in model.get_weights())


def two_outputs(**arguments):
    inputs = keras.Input((4,))
    outputs = {name: keras.layers.Dense(1, name=name)(inputs) for name in ("a", "b")}
    model = keras.Model(inputs, outputs)
    model.compile("sgd", **arguments)
    return model


@pytest.mark.parametrize(
    ("build", "targets"),
    [
        (lambda: two_outputs(loss="mse", loss_weights={"a": 1.0, "b": 2.0}), 1),
        (lambda: two_outputs(loss={"a": "mse", "c": "mse"}), 1),
        (lambda: explosions.mlp(loss="categorical_crossentropy"), 3),
        (lambda: explosions.mlp(metrics=["no such metric"]), 1),
    ],
    ids=["loss weights", "name of a loss", "shape of the targets", "name of a metric"],
)
def test_what_keras_refuses_is_refused_as_keras_refuses_it(build, targets, under_the_net, caplog):
    x, y = explosions.table(64)
    y = (
        {"a": y, "b": y}
        if hasattr(model := build(), "output_names") and len(model.output_names) > 1
        else np.tile(y, targets)
    )
    with pytest.raises(Exception) as expected:
        build().fit(x, y, epochs=1, verbose=0)
    with pytest.raises(expected.type) as raised:
        nanfix.fit(model, x, y, epochs=1, verbose=0)
    assert str(raised.value).split("\n")[0] == str(expected.value).split("\n")[0]
    assert not [text for text in caplog.messages if "fault of nanfix" in text]


@pytest.mark.parametrize("hook", ["on_epoch_end", "on_train_batch_begin", "on_train_end"])
def test_what_the_users_callback_raises_passes_unchanged(hook, under_the_net):
    """The second time the hook is called is in the repaired training, or at the end of
    the failed one.
    """

    def act(self, *args, **kwargs):
        self.calls = getattr(self, "calls", 0) + 1
        # No statement of the user's own is needed for that, but any will do.
        raise KeyError(self.calls)

    model, x, y, arguments = exploding(
        callbacks=[type("Raises", (keras.callbacks.Callback,), {hook: act})()]
    )
    with pytest.raises(KeyError):
        nanfix.fit(model, x, y, throw=False, **QUICK, **arguments)
    assert all(np.isfinite(weight).all() for weight in model.get_weights())


def test_what_the_users_generator_raises_passes_as_keras_passes_it(under_the_net):
    x, y = explosions.table(64)

    def train(fit, rate):
        def batches():
            for _ in range(12):
                yield x[:16], y[:16]
            raise OSError("the disk is gone")

        model = explosions.mlp(keras.optimizers.SGD(rate))
        with pytest.raises(Exception, match="the disk is gone") as raised:
            fit(model, batches(), epochs=5, steps_per_epoch=4, verbose=0)
        assert_usable(model, x)
        return raised.type

    by_keras = train(lambda model, batches, **arguments: model.fit(batches, **arguments), 0.01)
    assert (
        train(
            lambda *given, **arguments: nanfix.fit(*given, throw=False, **QUICK, **arguments), 1e4
        )
        is by_keras
    )


# Work that is interrupted, in `make test` and in `make soak` alone.
OFTEN = (
    "nanfix.explain.incident.replay",
    "nanfix.search.judge.Judge.__call__",
    "nanfix.search.adoption.merged_history",
    "nanfix.install.workbench.Workbench.hand_back",
)
SELDOM = (
    "nanfix.explain.incident.try_otherwise",
    "nanfix.search.repair.measure_baselines",
    "nanfix.search.search_round.prove",
)


def interrupted(*args, **kwargs):
    raise KeyboardInterrupt


@pytest.mark.parametrize("piece", shortened((*OFTEN, *SELDOM), OFTEN))
def test_an_interrupt_in_any_phase_leaves_the_model_in_its_last_good_state(piece, under_the_net):
    model, x, y, arguments = exploding()
    initial = model.get_weights()
    under_the_net(piece, interrupted)
    report = nanfix.fit(model, x, y, throw=False, **QUICK, **arguments)
    assert report.outcome is Outcome.INTERRUPTED and not report.faults
    for left, right in zip(initial, model.get_weights(), strict=True):
        np.testing.assert_array_equal(left, right)


def test_an_interrupt_goes_on_to_the_user(under_the_net):
    model, x, y, arguments = exploding()
    under_the_net("nanfix.explain.incident.replay", interrupted)
    with pytest.raises(KeyboardInterrupt):
        nanfix.fit(model, x, y, **QUICK, **arguments)
    assert_usable(model, x)


@pytest.mark.parametrize("fix", [None, nanfix.Fix()], ids=["search", "known fix"])
def test_an_interrupt_in_the_training_itself_is_reported_too(fix):
    def stop(epoch, logs):
        raise KeyboardInterrupt

    model, x, y, arguments = explosions.healthy()
    callbacks = [keras.callbacks.LambdaCallback(on_epoch_end=stop)]
    report = nanfix.fit(model, x, y, throw=False, fix=fix, **{**arguments, "callbacks": callbacks})
    assert report.outcome is Outcome.INTERRUPTED
    assert_usable(model, x)
