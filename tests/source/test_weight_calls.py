"""Which call makes a weight of a layer."""

from types import SimpleNamespace

import keras

from nanfix.changes.least_weights import LeastWeights
from nanfix.changes.plan import Plan
from nanfix.records.source_changes import ArgumentChange, ConstraintChange, NoPlace
from nanfix.records.source_places import Made, Span
from nanfix.source.weight_calls import made_by


class Scaled(keras.layers.Layer):
    """Makes a weight with a name, one with an attribute alone, and one that is constrained."""

    def build(self, _):
        self.named = self.add_weight(shape=(), name="scale")
        self.held = self.add_weight(shape=())
        self.bound = self.add_weight(shape=(), name="bound", constraint="non_neg")

    def call(self, x):
        return x * self.named


PLACES = SimpleNamespace(relative=lambda path: "train.py")


def line_of(made):
    with open(__file__) as file:
        return file.read().splitlines()[made.place.line - 1].strip()


def test_it_is_known_by_the_name_or_by_the_attribute():
    layer = Scaled()
    assert line_of(made_by(PLACES, layer, "scale")).startswith("self.named")  # before it is built
    layer.build(None)
    assert line_of(made_by(PLACES, layer, layer.held.name)).startswith("self.held")


def test_a_call_with_a_constraint_and_one_of_keras_own_code_are_left():
    layer = Scaled()
    layer.build(None)
    assert made_by(PLACES, layer, "bound") is None
    assert made_by(PLACES, keras.layers.Dense(1), "kernel") is None


def changes(*layers):
    """Return what is to be changed so that the `scale` and the `bound` of the first are held."""
    place = Span(file="train.py", line=1, column=0, end_line=1, end_column=9)
    call = SimpleNamespace(places=PLACES, fit=Made(callee="fit", place=place))
    members = {f"scaled[{number}]": layer for number, layer in enumerate(layers)}
    weights = [weight for layer in layers for weight in layer.weights]
    run = SimpleNamespace(members=members, model=SimpleNamespace(weights=weights))
    least = LeastWeights({"scaled[0]": {"scale": 0.1, "bound": 0.2}})
    return list(least.in_source(run, Plan(), call))


def test_the_constraint_stands_in_that_call_and_else_in_front_of_fit():
    one, other = Scaled(), Scaled()
    one.build(None)
    argument, before = changes(one)
    assert isinstance(argument, ArgumentChange) and argument.name == "constraint"
    assert isinstance(before, ConstraintChange) and before.least == {2: 0.2}
    other.build(None)
    (both,) = changes(one, other)  # the other is to stay as it is
    assert isinstance(both, ConstraintChange) and both.least == {0: 0.1, 2: 0.2}
    assert isinstance(changes(Scaled())[1], NoPlace)  # which has no weights before fit
