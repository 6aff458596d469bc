"""From the plan of a fix to the lines of a script: every kind of change, on models of
several forms.
"""

import functools
import sys
from contextlib import ExitStack
from pathlib import Path

import keras
import numpy as np
import pytest
import watching

from nanfix.changes.compilation import Compilation
from nanfix.changes.guards import Guard, Guards
from nanfix.changes.initial_weights import InitialWeights
from nanfix.changes.layers import LayerAttributes
from nanfix.changes.loss import LogitsLoss, RobustLoss
from nanfix.changes.maps import Affine, Power, TargetScaling
from nanfix.changes.optimizer import AdaptiveClip, OptimizerSettings
from nanfix.changes.plan import Plan
from nanfix.changes.rows import RowFilter
from nanfix.changes.scaling import Scaling
from nanfix.data.training_data import TrainingData
from nanfix.explain.description import describe
from nanfix.model.addresses import SINGLE
from nanfix.patch.locate import source_changes
from nanfix.patch.patch import digest, patch_of
from nanfix.records.source_changes import NoPlace
from nanfix.report.fix_file import FixFile, RunRecord
from nanfix.source.creation_sites import Places
from nanfix.source.fit_call import FitCall

SEQUENTIAL = """
import keras
import numpy as np
from keras import layers

X = np.random.default_rng(0).normal(size=(40, 3)).astype("float32")
y = X[:, :1]
model = keras.Sequential()
model.add(keras.Input((3,)))
model.add(layers.Dense(4, "relu"))
model.add(layers.Dense(1))
model.compile(keras.optimizers.SGD(0.1, clipnorm=1.0), "mse")
model.fit(X, y, epochs=2)
"""
CLASSIFIER = SEQUENTIAL.replace("layers.Dense(1)", 'layers.Dense(1, activation="sigmoid")').replace(
    '"mse"', "by_hand"
)
SUBCLASSED = """
import keras
import numpy as np

class Net(keras.Model):
    def __init__(self):
        super().__init__()
        self.out = keras.layers.Dense(1)

    def call(self, inputs):
        return self.out(inputs)

X = np.random.default_rng(0).normal(size=(40, 3)).astype("float32")
y = X[:, :1]
model = Net()
model.compile("sgd", "mse")
model.fit(X, y)
"""


@pytest.fixture
def noted(monkeypatch, tmp_path):
    """Run a script whose fit only notes the call; return what there is to know of it:
    the run and the call.
    """
    monkeypatch.chdir(tmp_path)
    watching.put_back(monkeypatch)

    def start(text, **names):
        places, found = Places(), {}
        places.install(keras)

        def fit(model, x, y=None, **arguments):
            place = places.called("fit", sys._getframe(1))
            found["call"] = FitCall.of(places, model, place, {"x": x, "y": y, **arguments})
            data = TrainingData.of(x, y, arguments)
            first = list(x.take(1)) if hasattr(x, "take") and not hasattr(x, "dtype") else []
            found["run"], _ = describe(model, data, first)

        monkeypatch.setattr(keras.Model, "fit", fit)
        Path("train.py").write_text(text)
        exec(
            compile(text, "train.py", "exec"),
            {"by_hand": lambda a, b: keras.ops.mean(a * b), **names},
        )
        return found["run"], found["call"]

    return start


def plan_of(*changes):
    """Return the plan of these changes."""
    return functools.reduce(Plan.with_change, changes, Plan())


def changed(run, stages, call):
    """Return the lines of the script that the patch adds, and the reasons for what has no place."""
    if not isinstance(stages, list):
        stages = [stages]
    changes = source_changes(run, stages, call)
    edits = [{"strategy": "reset-moments"}] * len(stages)
    record = RunRecord.model_validate({"outcome": "REPAIRED", "edits": edits, "source": changes})
    record = RunRecord.model_validate_json(record.model_dump_json())
    patch = patch_of(
        FixFile(files={"train.py": digest(Path("train.py").read_bytes())}, runs=[record]), Path()
    )
    for content in patch.after.values():
        compile(content, "train.py", "exec")
    added = [
        line[1:].strip()
        for line in str(patch).splitlines()
        if line.startswith("+") and not line.startswith("+++")
    ]
    return [line for line in added if line], [each.reason for each in patch.left_over]


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


def test_a_repair_that_has_changed_the_live_model_changes_nothing_of_the_places(noted):
    from nanfix.changes.insertion import insert_at_ends, normalization

    run, call = noted(SEQUENTIAL)
    affine = Affine((1.0, 2.0, 3.0), (1.0, 1.0, 2.0))
    scaling = Scaling(inputs={SINGLE: affine}, targets=TargetScaling(5.0, 2.0, 2))
    wanted = plan_of(LayerAttributes({"dense[1]": {"dtype_policy": "float32"}}), scaling)
    insert_at_ends(run.model, {SINGLE: [normalization(affine)]}, [], ExitStack())
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


def test_a_subclassed_model_is_scaled_in_its_call(noted):
    run, call = noted(SUBCLASSED)
    plan = plan_of(
        Scaling(
            inputs={SINGLE: Affine((0.0,) * 3, (255.0,) * 3)}, targets=TargetScaling(-5.0, 2.0, 1)
        )
    )
    assert changed(run, plan, call) == (
        [
            "self.scale_inputs = keras.layers.Rescaling(1 / 255.0)",
            "inputs = self.scale_inputs(inputs)",
            "return 2 * self.out(inputs) - 5",
            'model.compile("sgd", "mse", loss_weights=1 / 2.0)',
        ],
        [],
    )


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


def test_steps(noted):
    run, call = noted(SEQUENTIAL)
    (line,), _ = changed(run, plan_of(OptimizerSettings(skip_nonfinite=True)), call)
    assert "LossScaleOptimizer(keras.optimizers.SGD(0.1, clipnorm=1.0), initial_scale=1)" in line
    clipped = plan_of(
        OptimizerSettings({"global_clipnorm": None}, adaptive_clip=AdaptiveClip(0.5, 1.0, 3.0))
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


def test_rows_and_fills(noted):
    run, call = noted(SEQUENTIAL)
    added, reasons = changed(
        run, plan_of(Scaling(fills={SINGLE: (1.0, 2.0, 3.0)}), RowFilter(finite_targets=True)), call
    )
    assert (added, reasons) == (
        [
            "keep = np.isfinite(np.reshape(y, (len(y), -1))).all(axis=1)",
            "filled = np.where(np.isfinite(X[keep]), X[keep], [1, 2, 3])",
            "model.fit(filled, y[keep], epochs=2)",
        ],
        [],
    )


def test_rows_of_a_stream_have_no_place(noted):
    stream = "tf.data.Dataset.from_tensor_slices((X, y)).batch(8)"
    text = SEQUENTIAL.replace("X, y, epochs=2", stream)
    run, call = noted(text.replace("import keras\n", "import keras\nimport tensorflow as tf\n"))
    assert changed(run, plan_of(RowFilter(finite_targets=True)), call) == (
        [],
        ["the data are not one array of inputs and one of targets"],
    )


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
