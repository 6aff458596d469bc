"""From the plan of a fix to the lines of a script: activations behind outputs."""

import pytest
from located import SUBCLASSED, changed, plan_of

from nanfix.changes.behind_outputs import BehindOutputs
from nanfix.changes.maps import Mixed, TargetScaling
from nanfix.changes.scaling import Scaling

LISTED = """
import keras
import numpy as np
from keras import layers

X = np.random.default_rng(0).normal(size=(40, 3)).astype("float32")
y = X[:, :2]
model = keras.Sequential([keras.Input((3,)), layers.Dense(2), layers.Rescaling(2.0)])
model.compile("sgd", "mse")
model.fit(X, y)
"""
ADDED = LISTED.replace(
    "keras.Sequential([keras.Input((3,)), layers.Dense(2), layers.Rescaling(2.0)])",
    "keras.Sequential([keras.Input((3,)), layers.Dense(2)])\nmodel.add(layers.Rescaling(2.0))",
)
GRAPH = LISTED.replace(
    "model = keras.Sequential([keras.Input((3,)), layers.Dense(2), layers.Rescaling(2.0)])",
    "inputs = keras.Input((3,))\n"
    "both = layers.Dense(2)(inputs) - layers.Dense(2)(inputs)\n"
    "model = keras.Model(inputs, outputs=both)",
)
HEADS = GRAPH.replace("outputs=both", "[layers.Dense(2)(inputs), both]").replace(
    '"mse"', '["mse", "mse"]'
)
SOFTPLUS = BehindOutputs({"output": "softplus"})
DEVIATION = BehindOutputs({"output": ((1, None), (1, "softplus"))})
FLOORED = BehindOutputs({"output": Mixed(0.02, 2)})
FUNCTION = [
    "@keras.utils.register_keras_serializable()",
    "def softplus_of_1(x):",
    '"""Return x with softplus of column 1."""',
    "return keras.ops.concatenate([x[..., :1], keras.activations.softplus(x[..., 1:])], axis=-1)",
]


@pytest.mark.parametrize(
    ("script", "change", "lines"),
    [
        (
            LISTED,
            SOFTPLUS,
            [
                "model = keras.Sequential([keras.Input((3,)), layers.Dense(2), "
                'layers.Rescaling(2.0), layers.Activation("softplus")])'
            ],
        ),
        (ADDED, SOFTPLUS, ['model.add(layers.Activation("softplus"))']),
        (
            GRAPH,
            SOFTPLUS,
            ['model = keras.Model(inputs, outputs=layers.Activation("softplus")(both))'],
        ),
        (ADDED, FLOORED, ["model.add(layers.Rescaling(0.98, offset=0.02 / 2))"]),
        (
            GRAPH,
            DEVIATION,
            [
                *FUNCTION,
                "model = keras.Model(inputs, outputs=layers.Activation(softplus_of_1)(both))",
            ],
        ),
        (SUBCLASSED, SOFTPLUS, ["return keras.activations.softplus(self.out(inputs))"]),
        (
            SUBCLASSED,
            FLOORED,
            ["return keras.layers.Rescaling(0.98, offset=0.02 / 2)(self.out(inputs))"],
        ),
        (SUBCLASSED, DEVIATION, [*FUNCTION, "return softplus_of_1(self.out(inputs))"]),
    ],
    ids=[
        "list",
        "add",
        "graph",
        "floor",
        "columns of a graph",
        "call",
        "floor of a call",
        "columns of a call",
    ],
)
def test_an_activation_is_written_behind_the_output(noted, script, change, lines):
    run, call = noted(script)
    assert changed(run, plan_of(change), call) == (lines, [])


@pytest.mark.parametrize(
    ("returned", "lines"),
    [
        ("return(self.out(inputs))", ["return keras.activations.softplus(self.out(inputs))"]),
        (
            "return (\n            self.out(inputs)\n            + 1.0\n        )",
            ["return keras.activations.softplus("],
        ),
    ],
)
def test_parentheses_round_what_a_call_returns_are_those_of_the_activation(noted, returned, lines):
    run, call = noted(SUBCLASSED.replace("return self.out(inputs)", returned))
    assert changed(run, plan_of(SOFTPLUS), call) == (lines, [])


def test_of_several_outputs_the_one_is_written(noted):
    run, call = noted(HEADS)
    plan = plan_of(BehindOutputs({run.ends[1]: "softplus"}))
    (line,), _ = changed(run, plan, call)
    both = 'layers.Activation("softplus")(both)'
    assert line == f"model = keras.Model(inputs, [layers.Dense(2)(inputs), {both}])"


def test_a_call_has_its_activation_and_scales_what_that_gives(noted):
    run, call = noted(SUBCLASSED)
    plan = plan_of(SOFTPLUS, Scaling(targets={"output": TargetScaling((3.0,), (2.0,), 1)}))
    lines, _ = changed(run, plan, call)
    assert "return 2.0 * keras.activations.softplus(self.out(inputs)) + 3.0" in lines


def test_outputs_that_are_made_elsewhere_have_no_place(noted):
    run, call = noted(
        GRAPH.replace("(inputs, outputs=both)", "(**dict(inputs=inputs, outputs=both))")
    )
    assert changed(run, plan_of(SOFTPLUS), call)[0] == []
