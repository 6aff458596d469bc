"""Probes: plans that are trained for some steps, one after the other, on one model."""

import explosions
import numpy as np

from nanfix.changes.optimizer import OptimizerSettings
from nanfix.changes.plan import Plan
from nanfix.data.training_data import TrainingData
from nanfix.explain.incident import Incident
from nanfix.install.workbench import Workbench
from nanfix.recorder.watch import Watching, watch


def plan(**settings):
    return Plan().with_change(OptimizerSettings(settings))


def test_a_graph_that_is_taken_up_again_is_fed_what_it_was_traced_for():
    """Rows to judge on have weights of another rank than rows of the training, and each
    graph is traced by itself.
    """
    model, x, y, arguments = explosions.learning_rate()
    weights = np.ones((len(y), 1), "float32")
    data = TrainingData.of(
        x, y, {**arguments, "sample_weight": weights, "validation_data": (x, y, weights[:, 0])}
    )
    incident = Incident(model, data, watch(model, data), Watching(), seed=0)
    bench = Workbench(incident.run, data, incident.validation, incident.sites)
    bench.open()
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
