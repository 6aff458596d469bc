"""Installs a plan in the user's model, so that it trains with it, and takes everything back."""

import contextlib
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from nanfix.changes.change import Change
from nanfix.changes.guards import Guards
from nanfix.changes.optimizer import OptimizerSettings
from nanfix.changes.plan import Plan
from nanfix.changes.scaling import Scaling
from nanfix.changes.scaling_call import Gate
from nanfix.data.measured_targets import measured_targets
from nanfix.model.outputs import OUTPUT, end_names
from nanfix.model.run import Run
from nanfix.model.snapshot import Snapshot, restore
from nanfix.model.training_step import RecordingStep, recordable
from nanfix.private.objects import COMPILED, TRAINS

GRAPHS = 4  # as many traced graphs are kept; a search comes back to the latest few
# What they change stands in variables, which the last plan has set.
ALWAYS = (OptimizerSettings, Scaling)

T = TypeVar("T")


def _widths(run: Run, names: Sequence[str]) -> list[int]:
    """Return how many columns of each output can be scaled by themselves. The width of an output
    without targets may be that of a batch.
    """
    measured = {each.name for each in measured_targets(run)}
    given = dict(zip(end_names(run), run.output_shapes, strict=False))
    made = [given.get(name, ()) if name in measured else () for name in names]
    return [each[0] or 1 if len(each) == 1 else 1 for each in made]


class Installer:
    """Installs plans in the model, one after the other, and takes everything back on
    `close`. See `Workshop`.

    Functions once traced are kept for the next plan that needs the same graph: learning rate,
    scalings and initial weights are variables, so they never need a new one.
    """

    def __init__(self, run: Run):
        self.run, self.model = run, run.model
        self.layers = dict(run.members)
        names = end_names(run) or (OUTPUT,)
        scaled = [n if n == OUTPUT or n in run.scalable_outputs else None for n in names]
        self.gate = Gate(run.model, run.sample, scaled, _widths(run, names))
        self.repair = contextlib.ExitStack()
        self.training = contextlib.ExitStack()
        self.trying, self.seed = False, 0
        self._kept: dict[str, Any] = {}
        # By the name of each: the functions that were traced, and the graph that is in use.
        self._functions: dict[str, dict[str, Any]] = {name: {} for name in COMPILED}
        self._graphs: dict[str, str] = dict.fromkeys(COMPILED, "the user's own")

    def kept(self, name: str, make: Callable[[], T]) -> T:
        """Return what `make()` made when something of this name was first asked for: it is kept
        from one plan to the next.
        """
        if name not in self._kept:
            self._kept[name] = make()
        return self._kept[name]

    def open(self) -> None:
        """Keep the user's own compiled functions aside and put the gate in place."""
        self.gate.open()
        self._switch(self._graphs_of(Plan()))

    def prepare(self, plan: Plan, start: Snapshot, seed: int = 0, *, trying: bool = False) -> None:
        """Make the model ready to train with `plan` from `start`: state, optimizer,
        layers, loss, scalings, rate.

        What is only tried costs as few new traces as possible, but its optimizer is
        nothing to be saved.
        """
        restore(start)
        self.put_back()
        self.trying, self.seed = trying, seed
        for change in _each(plan):
            change.install(self, plan)
        self._install_for_training(plan)
        self._switch(self._graphs_of(plan))
        if self.model.train_function is None and recordable(self.model):
            # So that the adopted training needs no new trace.
            self.model.train_function = RecordingStep(self.model)

    def put_back(self) -> None:
        """Take back what the last plan changed, apart from the values of variables."""
        self.training.close()
        self.repair.close()

    def close(self) -> None:
        """Put back everything the user's object had before, except the values of its variables."""
        self.put_back()
        self.gate.close()
        self.forget_functions()

    def lay_down(self, plan: Plan, undo: contextlib.ExitStack) -> None:
        """Close the gate and take away what is of use in training alone, until `undo` is closed."""
        undo.callback(self._install_for_training, plan)
        self.training.close()  # before the gate: it was installed on it
        if self.gate.is_open:
            undo.callback(self.gate.open)
            self.gate.close()
            plan.of(Guards).install_on_call(self, undo)  # they stood round the gate

    def settle(self, plan: Plan) -> list[str]:
        """Leave what the last plan changed with the model for good, and return notes
        for the user.
        """
        notes = [note for change in _each(plan) for note in change.settle(self)]
        self.repair.pop_all()
        self.forget_functions()
        return notes

    def forget_functions(self) -> None:
        for name in COMPILED:
            setattr(self.model, name, None)

    def _install_for_training(self, plan: Plan) -> None:
        for change in _each(plan):
            change.install_for_training(self, plan)

    def _graphs_of(self, plan: Plan) -> dict[str, str]:
        """Name for each compiled function what of a plan is built into its graph, as what stands in
        variables and what is done to data are not, nor in an evaluation what is of the training
        step alone.
        """
        keys = [(change, (change.kind, change.graph_key(self))) for change in _each(plan)]
        keys = [(change, key) for change, key in keys if key[1] is not None]
        evaluated = repr([key for change, key in keys if change.is_evaluated(self)])
        return {**dict.fromkeys(COMPILED, evaluated), TRAINS: repr([key for _, key in keys])}

    def _switch(self, graphs: dict[str, str]) -> None:
        """Use the functions traced for these graphs, or let Keras trace new ones; the least
        recent are forgotten.
        """
        for name, known in self._functions.items():
            known[self._graphs[name]] = getattr(self.model, name)
            setattr(self.model, name, known.pop(graphs[name], None))
            while len(known) > GRAPHS:
                del known[next(iter(known))]
        self._graphs = graphs


def _each(plan: Plan) -> list[Change]:
    """Return the changes of a plan in their order, with those that have to be installed even if
    they change nothing.
    """
    whole = Plan({**{kind.kind: kind() for kind in ALWAYS}, **plan.changes})
    return list(whole)
