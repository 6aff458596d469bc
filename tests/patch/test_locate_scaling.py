"""From the plan of a fix to the lines of a script: scalings, holes and rows."""

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
from located import SEQUENTIAL, SUBCLASSED, changed, plan_of

from nanfix.changes.layer_source import FILL_HOLES
from nanfix.changes.layers import LayerAttributes
from nanfix.changes.maps import Affine, Power, TargetScaling
from nanfix.changes.rows import RowFilter
from nanfix.changes.scaling import Scaling
from nanfix.model.addresses import SINGLE
from nanfix.patch.locate import source_changes
from nanfix.patch.patch import digest, patch_of
from nanfix.records.rows_change import FIT_ALONE
from nanfix.report.fix_file import FixFile, RunRecord


def test_a_repair_that_has_changed_the_live_model_changes_nothing_of_the_places(noted):
    from nanfix.changes.insertion import insert_at_ends, normalization

    run, call = noted(SEQUENTIAL)
    affine = Affine((1.0, 2.0, 3.0), (1.0, 1.0, 2.0))
    scaling = Scaling(inputs={SINGLE: affine}, targets={"output": TargetScaling((5.0,), (2.0,), 2)})
    wanted = plan_of(LayerAttributes({"dense[1]": {"dtype_policy": "float32"}}), scaling)
    insert_at_ends(run.model, {SINGLE: [normalization(affine)]}, {}, ExitStack())
    run.model.optimizer.clipnorm = None
    assert changed(run, wanted, call) == (
        [
            "model.add(layers.Normalization(mean=[1, 2, 3], variance=[1, 1, 4]))",
            'model.add(layers.Dense(1, dtype="float32"))',
            "model.add(layers.Rescaling(2.0, offset=5.0))",
            (
                'model.compile(keras.optimizers.SGD(0.1, clipnorm=1.0), "mse", loss_weights=1 / '
                "2.0**2)"
            ),
        ],
        [],
    )


def test_a_subclassed_model_is_scaled_in_its_call(noted):
    run, call = noted(SUBCLASSED)
    plan = plan_of(
        Scaling(
            inputs={SINGLE: Affine((0.0,) * 3, (255.0,) * 3)},
            targets={"output": TargetScaling((-5.0,), (2.0,), 1)},
        )
    )
    assert changed(run, plan, call) == (
        [
            "self.scale_inputs = keras.layers.Rescaling(1 / 255.0)",
            "inputs = self.scale_inputs(inputs)",
            "return 2.0 * self.out(inputs) - 5.0",
            'model.compile("sgd", "mse", loss_weights=1 / 2.0)',
        ],
        [],
    )


TWO = """
import keras
import numpy as np
from keras import layers

X = np.random.default_rng(0).normal(size=(40, 3)).astype("float32")
y = {"price": X[:, :1], "sold": X[:, 1:2]}
inputs = keras.Input((3,))
price = layers.Dense(1, name="price")(inputs)
sold = layers.Dense(1, name="sold")(inputs)
model = keras.Model(inputs, {"price": price, "sold": sold})
model.compile("sgd", {"price": "mse", "sold": "mae"})
model.fit(X, y)
"""
LISTED = TWO.replace('{"price": price, "sold": sold}', "[price, sold]").replace(
    '{"price": "mse", "sold": "mae"}', '["mse", "mae"]'
)
SCALED = Scaling(targets={"price": TargetScaling((5.0,), (2.0,), 2)})


@pytest.mark.parametrize(
    ("script", "weights"),
    [
        (TWO, 'loss_weights={"price": 1 / 2.0**2, "sold": 1.0})'),
        (
            TWO.replace("model.compile", "k = 3\nmodel.compile").replace(
                '"mae"})', '"mae"}, loss_weights={"price": k + 2, "sold": k})'
            ),
            'loss_weights={"price": (k + 2) / 2.0**2, "sold": k})',
        ),
        (LISTED, "loss_weights=[1 / 2.0**2, 1.0])"),
        (
            LISTED.replace('"mae"])', '"mae"], loss_weights=[0.5, 2])'),
            "loss_weights=[0.5 / 2.0**2, 2])",
        ),
    ],
    ids=["by name", "computed", "a list", "a list of weights"],
)
def test_of_several_outputs_one_is_scaled_and_its_loss_weighed(noted, script, weights):
    run, call = noted(script)
    lines, reasons = changed(run, plan_of(SCALED), call)
    assert reasons == []
    (layer, compiled) = lines
    assert layer == (
        'price = layers.Rescaling(2.0, offset=5.0, name="price")('
        'layers.Dense(1, name="price_inner")(inputs))'
    )
    assert compiled.endswith(weights)


@pytest.mark.parametrize("script", [SEQUENTIAL, SUBCLASSED])
def test_columns_that_are_scaled_each_by_itself_have_no_place(noted, script):
    script = script.replace("Dense(1)", "Dense(2)").replace("X[:, :1]", "X[:, :2]")
    run, call = noted(script)
    columns = TargetScaling((1.0, 2.0), (10.0, 1.0), 2)
    lines, reasons = changed(run, plan_of(Scaling(targets={"output": columns})), call)
    assert lines == [] and len(reasons) == 1
    assert reasons[0].startswith("compile has no weight for the loss of a single column")


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ('"mse")', "compile is given one loss for all outputs, which takes no weights"),
        (
            "LOSSES, loss_weights={**WEIGHTS})",
            "the loss_weights that compile is given are not named there",
        ),
        (
            "LOSSES, loss_weights=WEIGHTS)",
            "the loss_weights that compile is given are not written there",
        ),
    ],
)
def test_weights_that_are_written_elsewhere_have_no_place(noted, given, reason):
    named = 'LOSSES = {"price": "mse", "sold": "mae"}\nWEIGHTS = {"price": 0.5, "sold": 1.0}\n'
    script = TWO.replace('{"price": "mse", "sold": "mae"})', given)
    run, call = noted(script.replace("inputs =", named + "inputs =", 1))
    _, reasons = changed(run, plan_of(SCALED), call)
    assert reasons == [reason]


@pytest.mark.parametrize(
    "package",
    ["import keras", "import tensorflow as tf\nkeras = tf.keras", "from tensorflow import keras"],
)
def test_a_power_transform_is_the_same_map_as_in_the_repair(noted, package):
    run, call = noted(SEQUENTIAL.replace("import keras", package, 1))
    power = Power(
        Affine((0.5, 0.0, 1.0), (1.0, 2.0, 3.0)),
        (0.0, 2.0, -0.7),
        Affine((0.1, 0.2, 0.3), (1.0, 2.0, 0.5)),
    )
    changes = source_changes(run, [plan_of(Scaling(inputs={SINGLE: power}))], call)
    record = RunRecord.model_validate(
        {"outcome": "REPAIRED", "edits": [{"strategy": "scale-inputs"}], "source": changes}
    )
    patch = patch_of(
        FixFile(files={"train.py": digest(Path("train.py").read_bytes())}, runs=[record]), Path()
    )
    names = {}
    exec(patch.after["train.py"], names)
    x = np.random.default_rng(1).normal(size=(64, 3)).astype("float32") * 10
    scaled = x
    for layer in names["model"].layers[:3]:
        scaled = layer(scaled)
    np.testing.assert_allclose(scaled, power(x), rtol=2e-4, atol=2e-4)
    names["model"].save("model.keras")
    again = keras.saving.load_model("model.keras")
    np.testing.assert_allclose(
        again.predict(x, verbose=0), names["model"].predict(x, verbose=0), rtol=1e-6
    )


def test_a_scaling_without_a_shift_is_one_that_keras_takes(noted):
    run, call = noted(SEQUENTIAL)
    added, _ = changed(
        run, plan_of(Scaling(inputs={SINGLE: Affine((0.0,) * 3, (1.0, 2.0, 3.0))})), call
    )
    assert added == ["model.add(layers.Normalization(mean=[0.0] * 3, variance=[1, 4, 9]))"]
    layer = eval(added[0].removeprefix("model.add(").removesuffix(")"), {"layers": keras.layers})
    np.testing.assert_allclose(layer(np.full((1, 3), 6.0)), [[6.0, 3.0, 2.0]])


FILLED = Scaling(fills={SINGLE: (1.0, 2.0, 3.0)})


def test_holes_are_filled_by_a_layer_in_front_of_what_scales(noted):
    run, call = noted(SEQUENTIAL)
    scaled = Scaling(inputs={SINGLE: Affine((1.0, 2.0, 3.0), (1.0, 1.0, 2.0))})
    added, reasons = changed(run, [plan_of(scaled), plan_of(scaled, FILLED)], call)
    layers = ["FillHoles([1, 2, 3])", "layers.Normalization(mean=[1, 2, 3], variance=[1, 1, 4])"]
    assert (added[-2:], reasons) == ([f"model.add({layer})" for layer in layers], [])
    assert not any("isfinite(X)" in line for line in added)


NORMALIZED = "layers.Normalization(mean=[1, 2, 3], variance=[1, 1, 4])"
RESCALED = "layers.Rescaling([1, 1, 0.5], offset=[-1, -2, -1.5])"  # in what is built as it trains


@pytest.mark.parametrize(
    ("inner", "scaled"),
    [
        (
            "return keras.Sequential([keras.Input((3,)), layers.Dense(4)])",
            f"return keras.Sequential([keras.Input((3,)), {NORMALIZED}, layers.Dense(4)])",
        ),
        (
            "return keras.Sequential([layers.Dense(4), layers.Dense(2)])",
            f"return keras.Sequential([{RESCALED}, layers.Dense(4), layers.Dense(2)])",
        ),
        (
            "i = keras.Input((3,)); o = layers.Dense(4)(i); return keras.Model(i, o)",
            f"scaled_i = {NORMALIZED}(i)",
        ),
    ],
)
def test_a_model_that_begins_with_another_is_scaled_where_that_one_begins(noted, inner, scaled):
    start, end = SEQUENTIAL.index("model = "), SEQUENTIAL.index("model.compile")
    inner = inner.replace("; ", "\n    ")
    inside = f"def encoder():\n    {inner}\n\n"
    outer = "part = encoder()\nmodel = keras.Sequential([part, layers.Dense(1)])\n"
    run, call = noted(f"{SEQUENTIAL[:start]}{inside}{outer}{SEQUENTIAL[end:]}")
    affine = Affine((1.0, 2.0, 3.0), (1.0, 1.0, 2.0))
    added, reasons = changed(run, plan_of(Scaling(inputs={SINGLE: affine})), call)
    assert reasons == [] and scaled in added


def test_a_model_that_begins_with_one_trained_before_is_scaled_in_front_of_it(noted):
    """That one was trained on inputs as they are, and is to find them so again."""
    start, end = SEQUENTIAL.index("model = "), SEQUENTIAL.index("model.compile")
    part = "part = keras.Sequential([keras.Input((3,)), layers.Dense(3)])\n"
    before = "first = keras.Sequential([part])\nfirst.compile('sgd', 'mse')\nfirst.fit(X, X)\n"
    outer = "model = keras.Sequential([part, layers.Dense(1)])\n"
    run, call = noted(f"{SEQUENTIAL[:start]}{part}{before}{outer}{SEQUENTIAL[end:]}")
    added, reasons = changed(run, plan_of(FILLED), call)
    front = "keras.Input((3,)), FillHoles([1, 2, 3])"
    line = f"model = keras.Sequential([{front}, part, layers.Dense(1)])"
    assert (added[-1], reasons) == (line, [])


def test_each_input_of_a_graph_gets_its_own_layer_of_one_class(noted):
    start, end = SEQUENTIAL.index("model = "), SEQUENTIAL.index("model.compile")
    graph = (
        'a = keras.Input((3,), name="a")\n'
        'b = keras.Input((1,), name="b")\n'
        "both = layers.Concatenate()([a, b])\n"
        "model = keras.Model([a, b], layers.Dense(1)(both))\n"
    )
    text = f"{SEQUENTIAL[:start]}{graph}{SEQUENTIAL[end:]}".replace("fit(X, y", "fit([X, y], y")
    run, call = noted(text)
    names = list(run.sample.named(run.sample.imputable))
    fills = dict(zip(names, [(1.0, 2.0, 3.0), (4.0,)], strict=True))
    added, reasons = changed(run, plan_of(Scaling(fills=fills)), call)
    wanted = {"scaled_a = FillHoles([1, 2, 3])(a)", "scaled_b = FillHoles([4])(b)"}
    assert reasons == [] and wanted < {*added}
    assert "both = layers.Concatenate()([scaled_a, scaled_b])" in added
    assert sum(line.startswith("class FillHoles") for line in added) == 1


def test_rows_are_left_out_beside_a_layer_that_fills(noted):
    run, call = noted(SEQUENTIAL)
    added, reasons = changed(run, plan_of(FILLED, RowFilter(finite_targets=True)), call)
    assert (added[-3:], reasons) == (
        [
            "model.add(FillHoles([1, 2, 3]))",
            "keep = np.isfinite(np.reshape(y, (len(y), -1))).all(axis=1)",
            "model.fit(X[keep], y[keep], epochs=2)",
        ],
        [],
    )


@pytest.mark.parametrize(
    ("made", "why"),
    [
        (
            "[keras.Sequential([keras.Input((3,)), layers.Dense(1)]) for _ in range(2)][0]",
            "also makes others, which have to stay as they are",
        ),
        (
            "keras.Sequential.from_config(CONFIG)",
            "makes it, and no single call of Dense stands there",
        ),
        ("library(keras)", "the call that makes the input is not in the script's own code"),
    ],
)
def test_holes_are_filled_before_fit_alone_where_no_layer_can_be_put(noted, made, why):
    """And that other data need the same is told of the patch, which is not all of the fix."""
    start, end = SEQUENTIAL.index("model = "), SEQUENTIAL.index("model.compile")
    config = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)]).get_config()
    library = {"library": lambda keras: keras.Sequential.from_config(config)}
    run, call = noted(
        f"{SEQUENTIAL[:start]}model = {made}\n{SEQUENTIAL[end:]}", CONFIG=config, **library
    )
    call = replace(call, inputs={}) if made.startswith("library") else call
    added, reasons = changed(run, plan_of(FILLED, RowFilter(finite_targets=True)), call)
    assert added == [
        "keep = np.isfinite(np.reshape(y, (len(y), -1))).all(axis=1)",
        "filled = np.where(np.isfinite(X[keep]), X[keep], [1, 2, 3])",
        "model.fit(filled, y[keep], epochs=2)",
    ]
    assert len(reasons) == 1 and why in reasons[0] and reasons[0].endswith(FIT_ALONE)


def test_rows_of_a_stream_beside_arrays_have_no_place(noted):
    stream = "tf.data.Dataset.from_tensor_slices((X, y)).batch(8), validation_data=(X, y)"
    text = SEQUENTIAL.replace("X, y, epochs=2", stream)
    run, call = noted(text.replace("import keras\n", "import keras\nimport tensorflow as tf\n"))
    assert changed(run, plan_of(RowFilter(finite_targets=True)), call) == (
        [],
        ["the data are not one array of inputs and one of targets"],
    )


def test_holes_of_a_stream_are_filled_by_a_layer_where_they_go_in(noted):
    stream = "tf.data.Dataset.from_tensor_slices((X, y)).batch(8)"
    text = SEQUENTIAL.replace("X, y, epochs=2", stream)
    run, call = noted(text.replace("import keras\n", "import keras\nimport tensorflow as tf\n"))
    added, reasons = changed(run, plan_of(Scaling(fills={SINGLE: (1.0, 2.0, 3.0)})), call)
    assert (added[-1], reasons) == ("model.add(FillHoles([1, 2, 3]))", [])
    made = {"keras": keras}
    exec(FILL_HOLES, made)
    layer = made["FillHoles"]([1.0, 2.0, 3.0])
    x = np.float32([[np.nan, 5.0, np.inf]])
    np.testing.assert_array_equal(layer(x), [[1.0, 5.0, 3.0]])
    again = made["FillHoles"].from_config(layer.get_config())
    np.testing.assert_array_equal(again(x), layer(x))
