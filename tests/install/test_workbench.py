"""The workbench keeps the graphs that a search comes back to, and lets go of the others."""

import gc

import explosions
import tensorflow as tf

from nanfix.data.training_data import TrainingData
from nanfix.explain.incident import Incident
from nanfix.install._installing import GRAPHS
from nanfix.install.workbench import Workbench
from nanfix.recorder.watch import Watching, watch
from nanfix.remedies.fix import Edit, Fix


def traced():
    """Return how many graphs of whole training steps are alive."""
    gc.collect()
    return sum(
        isinstance(thing, tf.Graph) and getattr(thing, "name", "") == "step_of_keras"
        for thing in gc.get_objects()
    )


def test_graphs_are_let_go_of():
    model, x, y, arguments = explosions.learning_rate()
    data = TrainingData.of(x, y, arguments)
    run = Incident(model, data, watch(model, data), Watching(), seed=0)
    bench, before = Workbench(run.run, data, run.validation, run.sites), traced()
    bench.open()
    for norm in range(1, GRAPHS + 4):  # a constraint is built into the graph
        fix = Fix((Edit("constrain-weights", {"layers": ["dense[0]"], "max_norm": float(norm)}),))
        bench.probe(fix.plan(run.run), run.recording.initial, steps=2)
    assert 1 <= traced() - before <= GRAPHS + 1
    bench.close()
