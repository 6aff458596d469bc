"""From the plan of a fix to the lines of a script: every kind of change; scalings and
rows are in test_locate_scaling.py.
"""

from dataclasses import replace

import keras
import pytest
from located import CLASSIFIER, SEQUENTIAL, changed, plan_of

from nanfix.changes.compilation import Compilation
from nanfix.changes.guards import Guard, Guards, in_float16
from nanfix.changes.initial_weights import InitialWeights
from nanfix.changes.layers import LayerAttributes
from nanfix.changes.loss import LogitsLoss, RobustLoss
from nanfix.changes.loss_weights import LossWeights
from nanfix.changes.maps import Affine
from nanfix.changes.optimizer import AdaptiveClip, OptimizerSettings
from nanfix.changes.rows import RowFilter
from nanfix.changes.scaling import Scaling
from nanfix.model.addresses import SINGLE
from nanfix.patch.locate import source_changes
from nanfix.records.source_changes import GuardChange, NoPlace


def test_what_layers_and_optimizer_are_made_with(noted):
    run, call = noted(SEQUENTIAL)
    plan = plan_of(
        LayerAttributes({"dense[0]": {"activation": "tanh", "max_norm": 2.0}}),
        InitialWeights({"dense[0]": "he_normal", "dense[1]": "glorot_uniform"}),
        OptimizerSettings(
            {"learning_rate": 0.01, "clipnorm": None, "clipvalue": None, "global_clipnorm": 0.5}
        ),
    )
    assert changed(run, plan, call) == (
        [
            (
                'model.add(layers.Dense(4, "tanh", '
                'kernel_constraint=keras.constraints.MaxNorm(2), kernel_initializer="he_normal"))'
            ),
            'model.compile(keras.optimizers.SGD(0.01, global_clipnorm=0.5), "mse")',
        ],
        [],
    )


def test_smaller_initial_weights(noted):
    run, call = noted(SEQUENTIAL)
    (made,), _ = changed(
        run, plan_of(InitialWeights({"dense[0]": "he_normal"}, {"dense[0]": 0.5})), call
    )
    assert "kernel_initializer=keras.initializers.VarianceScaling(0.5)" in made


@pytest.mark.parametrize(
    ("last", "columns", "call", "parts"),
    [
        (
            "layers.Dense(2)",
            ((1, None), (1, "softplus")),
            "layers.Dense(2, activation=softplus_of_1)",
            "x[..., :1], keras.activations.softplus(x[..., 1:])",
        ),
        (
            "layers.Dense(6, 'relu')",
            ((2, "sigmoid"), (3, "softplus"), (1, None)),
            "layers.Dense(6, sigmoid_of_0_to_1_and_softplus_of_2_to_4_and_relu_of_5)",
            "keras.activations.sigmoid(x[..., :2]), keras.activations.softplus(x[..., 2:5]), "
            "keras.activations.relu(x[..., 5:])",
        ),
        ("layers.Dense(2, lambda x: x)", ((1, None), (1, "softplus")), None, None),
    ],
)
def test_an_activation_of_some_columns_is_a_function_in_the_source(
    noted, last, columns, call, parts
):
    run, fit = noted(SEQUENTIAL.replace("layers.Dense(1)", last).replace('"mse"', "by_hand"))
    lines, left = changed(run, plan_of(LayerAttributes({"dense[1]": {"activation": columns}})), fit)
    if call is None:
        assert (lines, left) == ([], ["dense[1] computes an activation of your own"])
        return
    assert f"model.add({call})" in lines and not left
    assert parts in "".join(lines).replace(",keras", ", keras")


@pytest.mark.parametrize(
    ("given", "written"),
    [
        ('"mse"', '"mse", jit_compile=False'),
        ('"mse", jit_compile=True', '"mse", jit_compile=False'),
        ('"mse", None, None, None, None, 1, True', '"mse", None, None, None, None, 1, False'),
    ],
)
def test_the_compiler_is_told_in_compile(noted, given, written):
    compiled = "model.compile(keras.optimizers.SGD(0.1, clipnorm=1.0), {})"
    run, call = noted(SEQUENTIAL.replace('"mse"', given))
    assert changed(run, plan_of(Compilation(jit_compile=False)), call) == (
        [compiled.format(written)],
        [],
    )


def test_weights_of_losses_are_told_in_compile_and_fit(noted):
    given = SEQUENTIAL.replace('"mse"', '"mse", loss_weights=float("inf")')
    fit = "model.fit(X, y, epochs=2{})"
    run, call = noted(given.replace(fit.format(""), fit.format(", class_weight={0: 1, 1: 9e99}")))
    plan = plan_of(LossWeights((2.0,)), RowFilter(class_weights=((1, 0.5),)))
    assert changed(run, plan, call) == (
        [
            'model.compile(keras.optimizers.SGD(0.1, clipnorm=1.0), "mse", loss_weights=2.0)',
            fit.format(", class_weight={0: 1.0, 1: 0.5}"),
        ],
        [],
    )


@pytest.mark.parametrize(
    ("loss", "line"),
    [
        (LogitsLoss("binary_crossentropy"), "keras.losses.BinaryCrossentropy()"),
        (
            LogitsLoss("binary_crossentropy", "sum", 2.0),
            'keras.losses.BinaryCrossentropy(reduction="sum"), loss_weights=2.0',
        ),
        (
            LogitsLoss("binary_crossentropy", raw_outputs=True),
            "keras.losses.BinaryCrossentropy(from_logits=True)",
        ),
        (
            RobustLoss("Huber", (("delta", 0.5),), 2.0),
            "keras.losses.Huber(delta=0.5), loss_weights=2.0",
        ),
    ],
)
def test_losses(noted, loss, line):
    run, call = noted(CLASSIFIER)
    added, reasons = changed(run, plan_of(loss), call)
    assert (
        added == [f"model.compile(keras.optimizers.SGD(0.1, clipnorm=1.0), {line})"]
        and reasons == []
    )


def test_a_stock_loss_that_would_need_logits_has_no_place(noted):
    run, call = noted(CLASSIFIER.replace("by_hand", '"binary_crossentropy"'))
    assert changed(run, plan_of(LogitsLoss("binary_crossentropy")), call) == (
        [],
        ["without its last activation the model would predict logits"],
    )


def test_rates_that_rise_or_follow_a_schedule(noted):
    run, call = noted(SEQUENTIAL)
    (line,), _ = changed(run, plan_of(OptimizerSettings(warm_up=20)), call)
    assert (
        "SGD(keras.optimizers.schedules.PolynomialDecay(0.005, 20, end_learning_rate=0.1), "
        "clipnorm=1.0)"
    ) in line
    run, call = noted(
        SEQUENTIAL.replace(
            "0.1", "keras.optimizers.schedules.CosineDecay(0.1, decay_steps=50, alpha=0.01)"
        )
    )
    (line,), _ = changed(run, plan_of(OptimizerSettings(rate_share=0.1)), call)
    assert "CosineDecay(0.01, decay_steps=50, alpha=0.01)" in line


def test_a_rate_that_a_callback_sets_again_has_no_place(noted):
    run, call = noted(SEQUENTIAL)
    run, again = replace(run, rate_is_set=True), "a callback of the script sets the learning rate"
    share = plan_of(OptimizerSettings(rate_share=0.01))
    assert changed(run, share, call)[1] == [f"{again} again: multiply what it sets by 0.01"]
    adam = plan_of(OptimizerSettings({"learning_rate": 0.003}, class_name="Adam"))
    lines, reasons = changed(run, adam, call)
    assert reasons == [f"{again} again: have it set at most 0.003"] and "Adam(" in lines[0]
    assert changed(run, plan_of(OptimizerSettings({"clipvalue": 0.5})), call)[1] == []


def test_steps(noted):
    run, call = noted(SEQUENTIAL)
    (line,), _ = changed(run, plan_of(OptimizerSettings(skip_nonfinite=True)), call)
    assert "LossScaleOptimizer(keras.optimizers.SGD(0.1, clipnorm=1.0), initial_scale=1)" in line
    clipped = plan_of(
        OptimizerSettings({"global_clipnorm": None}, adaptive_clip=AdaptiveClip(2.5, 3.0))
    )
    assert changed(run, clipped, call) == (
        [],
        ["Keras has no optimizer that clips at a running norm"],
    )


def test_guards(noted):
    run, call = noted(SEQUENTIAL)
    own = f"Sqrt is computed in Keras' own code, in layer {run.model.layers[1].name}"
    assert changed(run, plan_of(Guards((Guard("Sqrt", None, "dense[1]", 1e-7),))), call)[1] == [own]
    assert (
        "absent.py is not a file"
        in changed(run, plan_of(Guards((Guard("Sqrt", "absent.py:3", None, 1e-7),))), call)[1][0]
    )


def test_guards_know_what_is_computed_in_float16(noted, monkeypatch):
    """In a layer by its precision, in a loss by Keras' own."""
    run, call = noted(SEQUENTIAL.replace('"relu"', '"relu", dtype="mixed_float16"'))
    monkeypatch.setattr(call.places, "file", lambda name: name)

    def halves():
        layers = {3: "dense[0]", 4: "dense[1]", 5: None}
        guards = [
            Guard("Sqrt", f"train.py:{n}", layer, 1e-7, half=in_float16(run, layer))
            for n, layer in layers.items()
        ]
        found = source_changes(run, [plan_of(Guards(tuple(guards)))], call)
        return [change.half for change in found if isinstance(change, GuardChange)]

    assert halves() == [True, False, False]
    keras.config.set_floatx("float16")
    try:
        assert halves() == [True, False, True]
    finally:
        keras.config.set_floatx("float32")


def test_each_change_names_the_edits_that_want_it_and_each_edit_has_a_change_or_a_reason(noted):
    run, call = noted(SEQUENTIAL)
    first = plan_of(OptimizerSettings({"learning_rate": 0.003}, class_name="Adam"))
    second = first.with_change(LayerAttributes({"dense[0]": {"activation": "tanh"}}))
    third = second.with_change(OptimizerSettings({"global_clipnorm": 1.0}))
    # It draws such weights already.
    fourth = third.with_change(InitialWeights({"dense[1]": "glorot_uniform"}))
    changes = source_changes(run, [first, second, third, fourth], call)
    assert [(type(c).__name__, c.edits) for c in changes] == [
        ("ArgumentChange", [1]),
        ("OptimizerChange", [0, 2]),
        ("NoPlace", [3]),
    ]
    assert source_changes(run, [], call) == []


def test_what_is_made_elsewhere_has_no_place(noted):
    text = SEQUENTIAL.partition("model = ")[0] + 'model.compile("sgd", "mse")\nmodel.fit(X, y)\n'
    model = keras.Sequential(
        [keras.Input((3,)), keras.layers.Dense(4, "relu"), keras.layers.Dense(1)]
    )
    run, call = noted(text, model=model)
    scaling = Scaling(inputs={SINGLE: Affine((1.0,) * 3, (2.0,) * 3)})
    wanted = plan_of(LayerAttributes({"dense[0]": {"activation": "tanh"}}), scaling)
    changes = source_changes(run, [wanted], call)
    assert all(isinstance(change, NoPlace) for change in changes) and len(changes) == 2
