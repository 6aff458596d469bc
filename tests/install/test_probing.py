"""Probes: plans that are trained for some steps, one after the other, on one model."""

import contextlib

import explosions
import keras
import numpy as np
import pytest

from nanfix.changes.optimizer import OptimizerSettings
from nanfix.changes.plan import Plan
from nanfix.data.training_data import TrainingData
from nanfix.explain.incident import Incident
from nanfix.install import _probe_watch
from nanfix.install.probing import Original
from nanfix.install.workbench import Workbench
from nanfix.model.training_step import RecordingStep
from nanfix.recorder.watch import Watching, watch


def plan(**settings):
    return Plan().with_change(OptimizerSettings(settings))


def opened(model, data):
    """Return the incident of a training that fails, and a bench to try plans on."""
    incident = Incident(model, data, watch(model, data), Watching(), seed=0)
    bench = Workbench(incident.run, data, incident.validation, incident.sites)
    bench.open()
    return incident, bench


def test_a_graph_that_is_taken_up_again_is_fed_what_it_was_traced_for():
    """Rows to judge on have weights of another rank than rows of the training, and each
    graph is traced by itself.
    """
    model, x, y, arguments = explosions.learning_rate()
    weights = np.ones((len(y), 1), "float32")
    data = TrainingData.of(
        x, y, {**arguments, "sample_weight": weights, "validation_data": (x, y, weights[:, 0])}
    )
    incident, bench = opened(model, data)
    start = incident.recording.initial
    bench.prepare(Plan(), start)
    losses = [bench.validation()[0], bench.figures_on(incident.training_rows)["loss"]]
    for norm, rate in ((1e-3, 1e-3), (None, 1e-3)):
        probe = bench.probe(
            plan(learning_rate=rate, **({} if norm is None else {"global_clipnorm": norm})),
            start,
            steps=3,
        )
        losses.append(probe.loss)
    bench.close()
    assert np.isfinite(losses).all()


def test_steps_in_one_call_come_to_what_single_steps_come_to(monkeypatch):
    """Neither the 3 batches of an epoch nor the 10 steps are a multiple of the steps of a call."""
    model, x, y, arguments = explosions.learning_rate()
    data = TrainingData.of(x[:50], y[:50], {**arguments, "batch_size": 16})
    incident, bench = opened(model, data)
    start, probes, calls = incident.recording.initial, [], []
    for at_once in (1, 2, 32):
        monkeypatch.setattr(_probe_watch, "AT_ONCE", at_once)
        with counted(calls):
            for rate in (1e-3, 1e6):
                probes.append(bench.probe(plan(learning_rate=rate), start, steps=10))
    bench.close()
    learned, failed = probes[::2], probes[1::2]
    assert {probe.steps for probe in learned} == {10}
    assert len({probe.loss for probe in learned}) == 1
    assert {probe.loss for probe in failed} == {None}
    assert len({probe.steps for probe in failed}) == 1
    assert calls[2] < calls[1] < calls[0]


def test_a_probe_that_recovers_within_a_short_epoch_is_not_lost():
    """Too high a loss counts from the 11th step of an epoch, in whatever calls they are run."""
    model, x, y, arguments = explosions.learning_rate()
    data = TrainingData.of(x[:50], y[:50], {**arguments, "batch_size": 16})
    incident, bench = opened(model, data)
    probe = bench.probe(plan(learning_rate=1e-3), incident.recording.initial, steps=10, lost=1e-9)
    bench.close()
    assert probe.steps == 10


@contextlib.contextmanager
def counted(calls):
    """Add how often the graph of a training step is called inside the `with` block."""
    before, count = RecordingStep.__call__, [0]

    def counting(step, iterator):
        count[0] += 1
        return before(step, iterator)

    RecordingStep.__call__ = counting
    try:
        yield
    finally:
        RecordingStep.__call__ = before
        calls.append(count[0])


class Cooling(keras.callbacks.Callback):
    """Sets a temperature in every epoch: 1, 0.5, and 0 from the third on."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def on_epoch_begin(self, epoch, logs=None):
        self.layer.temperature.assign(max(1.0 - epoch / 2, 0.0))


class Rates(keras.callbacks.Callback):
    """Sets the learning rate before each step: tenfold at each from the second epoch on."""

    def on_train_batch_begin(self, batch, logs=None):
        iterations = int(self.model.optimizer.iterations)
        self.model.optimizer.learning_rate = 1e-3 * 10.0 ** max(iterations - 4, 0)


@pytest.mark.parametrize(("share", "held"), [(1.0, False), (1e-9, True)])
def test_a_probe_sets_the_rates_that_callbacks_have_set_and_trains_with_a_share(share, held):
    x, y = explosions.table(64)
    keras.utils.set_random_seed(0)
    model = explosions.mlp(keras.optimizers.SGD(1e-3))
    arguments = {"epochs": 6, "batch_size": 16, "verbose": 0, "callbacks": [Rates()]}
    data = TrainingData.of(x, y, arguments)
    incident = Incident(model, data, watch(model, data), Watching(), seed=0)
    recording = incident.recording
    assert incident.run.rate_is_set and recording.set_at[0][0] == 5
    bench = Workbench(incident.run, data, incident.validation, incident.sites)
    bench.open()
    original = Original(recording.initial, recording.set_at)
    plan = Plan().with_change(OptimizerSettings(rate_share=share))
    probe = bench.probe(plan, recording.initial, 12, original=original)
    bench.close()
    assert (probe.loss is not None) is held, probe


@pytest.mark.parametrize("steps", [20, 8])
def test_a_probe_sets_what_callbacks_have_set_in_the_model(steps):
    """At the same steps: 4 are an epoch, and the callback itself does not run."""
    x, y = explosions.table(64)
    keras.utils.set_random_seed(0)
    layer = explosions.Cooled()
    model = keras.Sequential([keras.layers.Dense(4), layer, keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(1e-3), "mse")
    arguments = {"epochs": 6, "batch_size": 16, "verbose": 0, "callbacks": [Cooling(layer)]}
    data = TrainingData.of(x, y, arguments)
    incident = Incident(model, data, watch(model, data), Watching(), seed=0)
    recording = incident.recording
    assert [total for total, _ in recording.set_at] == [4, 8]
    bench = Workbench(incident.run, data, incident.validation, incident.sites)
    bench.open()
    original = Original(recording.initial, recording.set_at)
    probe = bench.probe(Plan(), recording.initial, steps, original=original)
    failed = probe.loss is None
    temperature = float(layer.temperature.numpy())
    bench.close()
    if steps == 8:
        assert not failed and temperature == 0.5
    else:
        assert failed and temperature == 0.0
