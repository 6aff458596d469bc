"""Changes of the source, without TensorFlow: where they go, what they leave alone, and
what has no place.
"""

import ast
import math
import os
import shutil
import subprocess
import textwrap
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from nanfix.patch.patch import apply_patch, digest, patch_of
from nanfix.records.errors import PatchError
from nanfix.records.source_changes import (
    AdaptChange,
    ArgumentChange,
    Band,
    CallChange,
    GuardChange,
    LayerChange,
    LossChange,
    NoPlace,
    OptimizerChange,
    RowsChange,
    WeightsChange,
)
from nanfix.records.source_places import Made, Span
from nanfix.records.unsafe_operations import (
    ABOVE_LOWEST,
    ABOVE_ONE,
    BASE,
    REGULAR,
    UNSAFE_OPERATIONS,
)
from nanfix.report.fix_file import FixFile, RunRecord

PATH = "train.py"
MEANS = {"MEAN": [1.5, -2.0], "VARIANCE": [4.0, 9.0]}
NORMALIZATION = "keras.layers.Normalization(mean=MEAN, variance=VARIANCE)"


@pytest.fixture(autouse=True)
def folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    return tmp_path


class Script:
    """A file of the user's, and the places in it as nanfix notes them when it runs."""

    def __init__(self, text, path=PATH):
        self.text = textwrap.dedent(text).lstrip("\n")
        self.path = path
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_bytes(self.text.encode())

    def made(self, call, nth=0, **counts):
        """Return the nth call of that name, as ast has it."""
        calls = [
            n
            for n in ast.walk(ast.parse(self.text))
            if isinstance(n, ast.Call) and self._name(n.func) == call
        ]
        calls.sort(key=lambda n: (n.lineno, n.col_offset))
        n = calls[nth]
        place = Span(
            file=self.path,
            line=n.lineno,
            column=n.col_offset,
            end_line=n.end_lineno or 0,
            end_column=n.end_col_offset or 0,
        )
        return Made(place=place, callee=call, **counts)

    def line(self, part):
        return 1 + next(i for i, line in enumerate(self.text.splitlines()) if part in line)

    @staticmethod
    def _name(node):
        return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")

    def patch(self, *changes, runs=None):
        edits = [{"strategy": "lower-learning-rate", "learning_rate": 0.1}]
        wanted = runs or [changes]
        records = [
            RunRecord.model_validate(
                {
                    "call": n,
                    "outcome": "REPAIRED",
                    "edits": edits,
                    "source": [c.model_copy(update={"edits": [0]}) for c in each],
                }
            )
            for n, each in enumerate(wanted)
        ]
        return patch_of(
            FixFile(files={self.path: digest(Path(self.path).read_bytes())}, runs=records), Path()
        )

    def after(self, *changes, runs=None):
        """Return the changed text, everything having found its place."""
        patch = self.patch(*changes, runs=runs)
        assert patch.left_over == ()
        text = patch.after[self.path].decode()
        compile(text, self.path, "exec")
        return text

    def reasons(self, *changes, runs=None):
        patch = self.patch(*changes, runs=runs)
        return [each.reason for each in patch.left_over]


def optimizer(target=None, compiled=None, fit=None, **more):
    told = {"name": "SGD", "positions": {"learning_rate": 0}, **more}
    return OptimizerChange(target=target, compiled=compiled, fit=fit, **told)


SEQUENTIAL = """
    import keras

    model = keras.Sequential(
        [
            keras.Input((2,)),  # two columns
            keras.layers.Dense(8, activation="relu"),
            keras.layers.Dense(1),  # the price
        ]
    )
    model.compile(optimizer=keras.optimizers.SGD(0.1), loss="mse")
    model.fit(X, y, epochs=3)
    """


def test_a_number_in_place():
    script = Script(SEQUENTIAL)
    text = script.after(optimizer(script.made("SGD"), arguments={"learning_rate": "0.001"}))
    assert text == script.text.replace("SGD(0.1)", "SGD(0.001)")


def test_an_argument_that_was_not_there():
    script = Script(SEQUENTIAL)
    text = script.after(optimizer(script.made("SGD"), arguments={"global_clipnorm": "1.0"}))
    assert text == script.text.replace("SGD(0.1)", "SGD(0.1, global_clipnorm=1.0)")


def test_arguments_of_a_layer_by_name_and_by_position():
    script = Script(SEQUENTIAL.replace('8, activation="relu"', '8, "relu"'))
    layer = script.made("Dense")
    text = script.after(
        ArgumentChange(target=layer, name="activation", value="'tanh'", position=1),
        ArgumentChange(target=layer, name="kernel_initializer", value="'he_normal'", position=3),
    )
    assert text == script.text.replace('8, "relu"', '8, "tanh", kernel_initializer="he_normal"')


def test_an_argument_is_taken_away_by_name_and_none_at_its_position():
    script = Script(
        "from keras.optimizers import SGD\nnamed = SGD(0.1, clipnorm=1.0)\n"
        "placed = SGD(0.1, 0.9, True)\n"
    )
    away = {"clipnorm": None, "learning_rate": "0.2"}
    text = script.after(
        optimizer(script.made("SGD"), arguments=away),
        optimizer(script.made("SGD", 1), arguments={"momentum": None}, positions={"momentum": 1}),
    )
    assert text.endswith("named = SGD(0.2)\nplaced = SGD(0.1, None, True)\n")


def test_an_argument_behind_unpacked_ones_is_not_taken_for_another():
    script = Script("import keras\nlayer = keras.layers.Dense(*sizes, 'relu')\n")
    assert (
        "unpacked"
        in script.reasons(
            ArgumentChange(target=script.made("Dense"), name="units", value="8", position=0)
        )[0]
    )


def test_another_class_of_optimizer_takes_the_place_of_the_old_with_its_arguments():
    script = Script(SEQUENTIAL.replace("SGD(0.1)", "SGD(0.1, momentum=0.9)"))
    text = script.after(
        optimizer(script.made("SGD"), new_class="Adam", arguments={"learning_rate": "0.003"})
    )
    assert text == script.text.replace("SGD(0.1, momentum=0.9)", "Adam(learning_rate=0.003)")


def test_an_optimizer_given_by_name_becomes_an_object():
    script = Script(SEQUENTIAL.replace("keras.optimizers.SGD(0.1)", '"sgd"'))
    text = script.after(
        optimizer(compiled=script.made("compile"), arguments={"learning_rate": "0.001"})
    )
    assert text == script.text.replace('"sgd"', "keras.optimizers.SGD(learning_rate=0.001)")


@pytest.mark.parametrize("given", ["args.lr", "2 * RATE", "schedule(0)"])
def test_a_computed_rate_is_set_in_front_of_fit(given):
    script = Script(SEQUENTIAL.replace("SGD(0.1)", f"SGD({given})"))
    text = script.after(
        optimizer(script.made("SGD"), fit=script.made("fit"), arguments={"learning_rate": "0.001"})
    )
    assert text == script.text.replace(
        "model.fit", "model.optimizer.learning_rate = 0.001\nmodel.fit"
    )


def test_an_optimizer_made_for_several_models_is_set_in_front_of_fit():
    script = Script(SEQUENTIAL)
    shared = script.made("SGD", made=2)
    text = script.after(
        optimizer(shared, fit=script.made("fit"), inner=True, arguments={"learning_rate": "0.001"})
    )
    assert text == script.text.replace(
        "model.fit", "model.optimizer.inner_optimizer.learning_rate = 0.001\nmodel.fit"
    )
    assert "made elsewhere" in script.reasons(optimizer(shared, new_class="Adam"))[0]


def test_a_loss_scale_round_what_compile_is_given():
    script = Script(SEQUENTIAL)
    change = optimizer(script.made("SGD"), compiled=script.made("compile"), loss_scale=1.0)
    assert (
        "keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1), initial_scale=1)"
        in script.after(change)
    )
    script = Script(SEQUENTIAL.replace("keras.optimizers.SGD(0.1)", "'sgd'"))
    change = optimizer(compiled=script.made("compile"), loss_scale=0.5)
    assert 'LossScaleOptimizer(keras.optimizers.get("sgd"), initial_scale=0.5)' in script.after(
        change
    )


def test_a_loss_and_its_weight():
    script = Script(SEQUENTIAL)
    compiled = script.made("compile")
    text = script.after(LossChange(compiled=compiled, weight="1 / 3000.0**2"))
    assert text == script.text.replace('loss="mse")', 'loss="mse", loss_weights=1 / 3000.0**2)')
    text = script.after(LossChange(compiled=compiled, loss="keras.losses.Huber(delta=1.0)"))
    assert text == script.text.replace('"mse"', "keras.losses.Huber(delta=1.0)")
    script = Script(SEQUENTIAL.replace('"mse"', '"mse", loss_weights=[2.0]'))
    assert script.reasons(LossChange(compiled=script.made("compile"), weight="0.5")) == [
        "compile is given loss_weights already"
    ]


def test_layers_in_a_list_keep_its_form_and_comments():
    script = Script(SEQUENTIAL)
    scaled = LayerChange(
        target=script.made("Input"),
        side="after",
        layers=[NORMALIZATION],
        role="scaled",
        numbers=MEANS,
    )
    outputs = LayerChange(
        target=script.made("Dense", 1),
        side="after",
        layers=["keras.layers.Rescaling(3.0, offset=-1.0)"],
        role="outputs",
    )
    before = LayerChange(
        target=script.made("Dense", 1),
        side="before",
        layers=["keras.layers.LayerNormalization()"],
        role="normalized",
    )
    old, new = script.text, script.after(scaled, outputs, before)
    two = "        keras.Input((2,)),  # two columns\n"
    old = old.replace(
        two, f"{two}        keras.layers.Normalization(mean=[1.5, -2], variance=[4, 9]),\n"
    )
    last = "        keras.layers.Dense(1),  # the price\n"
    old = old.replace(
        last,
        "        keras.layers.LayerNormalization(),\n"
        f"{last}        keras.layers.Rescaling(3.0, offset=-1.0),\n",
    )
    assert new == old


def test_layers_in_a_list_on_one_line():
    script = Script(
        "import keras\nm = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])\n"
    )
    text = script.after(
        LayerChange(
            target=script.made("Input"),
            side="after",
            layers=["keras.layers.Rescaling(0.5)"],
            role="scaled",
        ),
        LayerChange(
            target=script.made("Dense"),
            side="after",
            layers=["keras.layers.Rescaling(2.0)"],
            role="outputs",
        ),
    )
    inner = (
        "keras.Input((2,)), keras.layers.Rescaling(0.5), keras.layers.Dense(1), "
        "keras.layers.Rescaling(2.0)"
    )
    assert text == f"import keras\nm = keras.Sequential([{inner}])\n"


@pytest.mark.parametrize(
    ("given", "shape"), [("input_shape=(2,)", "(2,)"), ("input_dim=2", "(2,)")]
)
def test_a_first_layer_with_the_shape_of_the_input_hands_it_on(given, shape):
    script = Script(
        "import keras\nfrom keras import layers\n"
        f"m = keras.Sequential([layers.Dense(1, {given}, name='d')])\n"
    )
    change = LayerChange(
        target=None,
        side="after",
        layers=["keras.layers.Rescaling(0.5)"],
        role="scaled",
        otherwise=script.made("Dense"),
    )
    text = script.after(change)
    assert f"[keras.Input(shape={shape}), layers.Rescaling(0.5), layers.Dense(1, name='d')]" in text


def test_layers_that_are_added_one_by_one():
    script = Script(
        """
        from tensorflow.keras.models import Sequential
        from tensorflow.keras.layers import Dense, Input

        def build():
            model = Sequential()
            # the columns
            model.add(Input(shape=(2,)))
            model.add(Dense(1))
            return model
        """
    )
    text = script.after(
        LayerChange(
            target=script.made("Input"),
            side="after",
            layers=[NORMALIZATION],
            role="scaled",
            numbers=MEANS,
        ),
        LayerChange(
            target=script.made("Dense"),
            side="before",
            layers=["keras.layers.LayerNormalization()"],
            role="normalized",
        ),
    )
    added = [line.strip() for line in text.splitlines() if "add" in line]
    assert added == [
        "model.add(Input(shape=(2,)))",
        "model.add(keras.layers.Normalization(mean=[1.5, -2], variance=[4, 9]))",
        "model.add(keras.layers.LayerNormalization())",
        "model.add(Dense(1))",
    ]
    assert (
        "from tensorflow.keras.layers import Dense, Input\nfrom tensorflow import keras\n" in text
    )


def test_a_graph_of_tensors():
    script = Script(
        """
        import tensorflow as tf

        def build(width):
            inputs = tf.keras.Input((2,))
            x = tf.keras.layers.Dense(width)(inputs)
            skip = tf.keras.layers.Dense(width)(inputs)
            x = tf.keras.layers.Add()([x, skip])
            return tf.keras.Model(inputs=inputs, outputs=tf.keras.layers.Dense(1)(x))
        """
    )
    text = script.after(
        LayerChange(
            target=script.made("Input"),
            side="after",
            layers=[NORMALIZATION],
            role="scaled",
            numbers=MEANS,
        ),
        LayerChange(
            target=script.made("Dense", 2),
            side="after",
            layers=["keras.layers.Rescaling(2.0)"],
            role="outputs",
        ),
        LayerChange(
            target=script.made("Dense", 1),
            side="before",
            layers=["keras.layers.LayerNormalization()"],
            role="normalized",
        ),
    )
    assert text == textwrap.dedent(
        """\
        import tensorflow as tf

        def build(width):
            inputs = tf.keras.Input((2,))
            scaled_inputs = tf.keras.layers.Normalization(mean=[1.5, -2], variance=[4, 9])(inputs)
            x = tf.keras.layers.Dense(width)(scaled_inputs)
            skip = tf.keras.layers.Dense(width)(tf.keras.layers.LayerNormalization()(scaled_inputs))
            x = tf.keras.layers.Add()([x, skip])
            return tf.keras.Model(inputs=inputs, outputs=tf.keras.layers.Rescaling(2.0)(tf.keras.layers.Dense(1)(x)))
        """  # noqa: E501
    )


def test_a_subclassed_model_scales_in_its_own_call():
    script = Script(
        """
        import keras

        class Net(keras.Model):
            def __init__(self):
                super().__init__()
                self.out = keras.layers.Dense(1)

            def call(self, inputs, training=None):
                \"\"\"Predict.\"\"\"
                if training:
                    return self.out(inputs)
                return self.out(inputs) + 0

        net = Net()
        """
    )
    change = CallChange(
        file=PATH,
        line=script.line("def call"),
        target=script.made("Net"),
        inputs=[NORMALIZATION],
        numbers=MEANS,
        outputs=(3.0, -1.0),
    )
    text = script.after(change)
    assert (
        "        self.scale_inputs = keras.layers.Normalization(mean=[1.5, -2], variance=[4, 9])\n"
        in text
    )
    assert (
        '        """Predict."""\n        inputs = self.scale_inputs(inputs)\n        if training:'
        in text
    )
    assert (
        "return 3 * self.out(inputs) - 1\n" in text
        and "return 3 * (self.out(inputs) + 0) - 1\n" in text
    )
    several = change.model_copy(update={"target": script.made("Net", made=2)})
    assert script.reasons(several) == ["other models are made of Net too"]


def test_long_vectors_become_constants_in_short_lines():
    script = Script(SEQUENTIAL)
    numbers = {"MEAN": [1234.5 + i for i in range(40)], "VARIANCE": [1.0] * 40}
    change = LayerChange(
        target=script.made("Input"),
        side="after",
        layers=[NORMALIZATION],
        role="scaled",
        numbers=numbers,
    )
    text = script.after(change)
    assert "Normalization(mean=INPUT_MEAN, variance=INPUT_VARIANCE)," in text
    names = {}
    exec(
        "\n".join(text.splitlines()[: text.splitlines().index("model = keras.Sequential(")]), names
    )
    assert (names["INPUT_MEAN"], names["INPUT_VARIANCE"]) == (numbers["MEAN"], numbers["VARIANCE"])
    assert max(map(len, text.splitlines())) <= 100


GUARDED = {
    (
        "Log",
        "-tf.reduce_mean(y * tf.math.log(p))",
    ): "-tf.reduce_mean(y * tf.math.log(tf.maximum(p, 1e-07)))",
    (
        "Log",
        "a * ops.log(p) + b * ops.log(1 - p)",
    ): "a * ops.log(ops.maximum(p, 1e-07)) + b * ops.log(ops.maximum(1 - p, 1e-07))",
    ("Sqrt", "ops.sqrt((y - p))"): "ops.sqrt(ops.maximum(y - p, 1e-07))",
    ("Rsqrt", "tf.math.rsqrt(x)"): "tf.math.rsqrt(tf.maximum(x, 1e-07))",
    ("Log1p", "tf.math.log1p(-p)"): "tf.math.log1p(tf.maximum(-p, 1.2e-07 - 1))",
    ("Acos", "tf.acos(x)"): "tf.acos(tf.clip_by_value(x, 1.2e-07 - 1, 1 - 1.2e-07))",
    ("Exp", "ops.exp(x) / 2"): "ops.exp(ops.minimum(x, 16.12)) / 2",
    ("RealDiv", "(a + b) / (c - d) / 2"): "(a + b) / away_from_zero(c - d, 1e-07) / 2",
    ("RealDiv", "tf.divide(a, b)"): "tf.divide(a, away_from_zero(b, 1e-07))",
    ("Pow", "(a - b) ** 0.5 + c**2"): "ops.maximum(a - b, 1e-07) ** 0.5 + c**2",
    ("Pow", "tf.pow(x, -2)"): "tf.pow(away_from_zero(x, 1e-07), -2)",
    ("Xlogy", "tf.math.xlogy(p, q)"): "tf.math.xlogy(p, tf.maximum(q, 1e-07))",
}


@pytest.mark.parametrize(("operation", "before"), GUARDED)
def test_a_guarded_operation_on_its_line(operation, before):
    script = Script(
        "import tensorflow as tf\nfrom keras import ops\n\ndef loss(y, p):\n"
        f"    return {before}  # mine\n"
    )
    text = script.after(GuardChange(file=PATH, line=5, operation=operation, epsilon=1e-7))
    assert f"    return {GUARDED[operation, before]}  # mine\n" in text
    assert ("def away_from_zero(x, edge):" in text) == (
        "away_from_zero" in GUARDED[operation, before]
    )


# What an operation takes beside the operand that is kept in its domain, and where that is tried.
OTHERS = {
    "RealDiv": [1.0],
    "DivNoNan": [1.0],
    "Xlogy": [2.0],
    "Xlog1py": [2.0],
    "Atan2": [1.0],
    "FloorMod": [1.0],
    "Pow": [0.5],
}
POINTS = np.float32([-1e3, -2, -1, -1e-6, 0, 1e-6, 1, 2, 1e3])
PACKAGES = {"tf": (tf, tf.math, tf.linalg, tf.nn), "ops": (keras.ops,)}


def points(each):
    """Return where the operation or its gradient is not finite, among other points, and
    points in its domain.
    """
    if each.domain is REGULAR:
        return np.zeros((2, 2), "float32"), np.float32([[2, 0], [0, 2]])
    outside = np.float32([-np.inf, -np.inf]) if each.domain is ABOVE_LOWEST else POINTS
    return outside, np.float32([2.0, 3.0] if each.domain is ABOVE_ONE else [0.5, 0.25])


def computed(script, x):
    """Return what `f` of a script gives for x."""
    names = {}
    exec(script, names)
    return np.asarray(names["f"](tf.constant(x)), "float64")


def written(package, each):
    """Return the source of a call of the operation in a package, or None where it has none."""
    for module in PACKAGES[package]:
        for name in each.functions:
            if hasattr(module, name):
                home = (
                    f"keras.ops.{name}"
                    if package == "ops"
                    else f"{module.__name__.rpartition('tensorflow')[2]}.{name}"
                )
                return (
                    f"tf.{name}"
                    if module is tf
                    else home.replace("._api.v2.", "tf.")
                    if package == "tf"
                    else home
                )
    return None


@pytest.mark.parametrize("package", PACKAGES)
@pytest.mark.parametrize("each", UNSAFE_OPERATIONS.values(), ids=lambda each: each.name)
def test_source_is_finite_at_the_edge_and_unchanged_inside(each, package):
    function = written(package, each)
    if function is None:
        pytest.skip(f"{package} has no function for {each.name}")
    arguments = [
        f"tf.constant({other})" if each.domain is not BASE else str(other)
        for other in OTHERS.get(each.name, [])
    ]
    arguments.insert(each.operand, "x")
    plain = (
        "import keras\nimport tensorflow as tf\n\ndef f(x):\n"
        f"    return {function}({', '.join(arguments)})\n"
    )
    guarded = Script(plain).after(GuardChange(file=PATH, line=5, operation=each.name, epsilon=1e-4))
    outside, inside = points(each)
    assert guarded != plain and np.isfinite(computed(guarded, outside)).all()
    np.testing.assert_allclose(computed(guarded, inside), computed(plain, inside), rtol=1e-4)


@pytest.mark.parametrize("each", UNSAFE_OPERATIONS.values(), ids=lambda each: each.name)
def test_words_are_finite_at_the_edge(each):
    outside, _ = points(each)
    names = {
        "a": tf.constant(1.0),
        "x": tf.constant(2.0),
        "y": 0.5,
        "inf": math.inf,
        "ops": keras.ops,
        "tf": tf,
    }
    names[each.letter] = tf.constant(outside)
    for epsilon in each.epsilons[-1:] if not each.relative else (each.epsilons[-1], 0.0):
        assert np.isfinite(np.asarray(eval(each.written(epsilon), names))).all()


def test_exponentials_relative_to_the_largest():
    script = Script(
        "import tensorflow as tf\n\ndef shares(x):\n    e = tf.exp(x / 2)\n"
        "    return e / tf.reduce_sum(e, -1)\n"
    )
    text = script.after(GuardChange(file=PATH, line=4, operation="Exp", epsilon=0.0))
    assert "    e = tf.exp(without_largest(x / 2))\n" in text
    assert "return x - tf.reduce_max(x, axis=-1, keepdims=True)" in text


def test_a_division_by_zero_that_counts_as_nothing():
    script = Script("from keras import ops\n\ndef loss(y, p):\n    return ops.abs((y - p) / y)\n")
    text = script.after(GuardChange(file=PATH, line=4, operation="RealDiv", epsilon=0.0))
    assert (
        "    return ops.abs((y - p) / without_zero(y))\n" in text and "def without_zero(x):" in text
    )
    named = {"ops": keras.ops}
    exec(text.replace("from keras import ops\n", ""), named)
    np.testing.assert_array_equal(named["loss"](np.float32([0, 2]), np.float32([3, 3])), [0, 0.5])


@pytest.mark.parametrize(
    ("operation", "line"),
    [
        ("Log", "return tf.sqrt(p)"),
        ("Pow", "return p ** y"),
        ("MatMul", "return p @ y"),
        ("RealDiv", "return p / 2"),
    ],
)
def test_a_line_that_does_not_compute_the_operation_itself_is_left_alone(operation, line):
    script = Script(f"import tensorflow as tf\n\ndef loss(y, p):\n    {line}\n")
    (reason,) = script.reasons(GuardChange(file=PATH, line=4, operation=operation, epsilon=1e-7))
    assert operation in reason and "line 4" in reason


FIT = """
    import numpy as np

    model.fit(X, load("y"), epochs=3, validation_data=(X_held, y_held), class_weight=weights)
    """


def test_rows_are_left_out_of_training_and_validation():
    script = Script(FIT)
    text = script.after(RowsChange(fit=script.made("fit"), finite=["x", "y"]))
    assert text == textwrap.dedent(
        """\
        import numpy as np

        targets = load("y")
        keep = np.isfinite(np.reshape(X, (len(X), -1))).all(axis=1)
        keep &= np.isfinite(np.reshape(targets, (len(targets), -1))).all(axis=1)
        keep_held = np.isfinite(np.reshape(X_held, (len(X_held), -1))).all(axis=1)
        keep_held &= np.isfinite(np.reshape(y_held, (len(y_held), -1))).all(axis=1)
        model.fit(X[keep], targets[keep], epochs=3, validation_data=(X_held[keep_held], y_held[keep_held]), class_weight=weights)
        """  # noqa: E501
    )


def fed(text, **names):
    """Run a changed script with a model that only notes what it is fed."""
    import numpy as np

    class Model:
        def fit(self, *args, **kwargs):
            self.args, self.kwargs = args, kwargs

    names = {"model": Model(), "X": np.zeros((4, 2)), "load": lambda _: np.arange(1, 5), **names}
    exec(text, names)
    return names["model"]


def test_labels_count_from_0_in_training_validation_and_class_weights():
    import numpy as np

    script = Script(FIT)
    text = script.after(RowsChange(fit=script.made("fit"), first_label=1, renumber=True))
    model = fed(text, X_held=np.zeros((2, 2)), y_held=np.array([1, 2]), weights={1: 1.0, 2: 2.0})
    assert model.args[1].tolist() == [0, 1, 2, 3] and model.kwargs["validation_data"][
        1
    ].tolist() == [0, 1]
    assert model.kwargs["class_weight"] == {0: 1.0, 1: 2.0}


def test_whole_batches_of_usual_values_filled_and_rescaled():
    import numpy as np

    script = Script("history = model.fit(X, load('y'), batch_size=2)\n")
    changed = RowsChange(
        fit=script.made("fit"),
        bands=[Band(part="y", center=[2.0], scale=[1.5])],
        batch_rows=2,
        fill=[7.0, 8.0],
        labels=(1.0, 2.0),
    )
    text = script.after(changed)
    assert text.startswith("import numpy as np\n")
    x, y = fed(text, X=np.array([[np.nan, 1], [2, np.inf], [3, 4], [5, 6.0]])).args
    assert x.tolist() == [[7, 1], [2, 8]] and y.tolist() == [0, 0.5]


def test_non_finite_weights_are_replaced_in_front_of_fit():
    lines = ("import numpy", "", "net.fit(X)  # here")
    script = Script("\n".join(lines) + "\n")
    starts = {0: (0.25, 0.0), 2: (0.0, 1.0)}
    text = script.after(WeightsChange(fit=script.made("fit"), starts=starts))
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2), keras.layers.Dense(4)])
    model.compile("sgd", "mse")
    given = [np.array(weight) for weight in model.get_weights()]
    given[0][1], given[2][:] = np.nan, np.inf
    model.set_weights(given)
    model.fit = lambda x: None
    exec(text, {"X": None, "net": model})
    after = model.get_weights()
    assert (after[0][1] == 0.25).all() and len(np.unique(after[2])) == 8
    np.testing.assert_array_equal(after[0][[0, 2]], given[0][[0, 2]])
    assert text.endswith("net.fit(X)  # here\n")


@pytest.mark.parametrize("data", ["X", "np.array(X)"])
def test_holes_are_filled_in_what_a_layer_is_adapted_to(data):
    lines = (
        "import numpy as np",
        "from keras import layers",
        "norm = layers.Normalization()",
        f"norm.adapt({data})  # here",
    )
    script = Script("\n".join(lines) + "\n")
    text = script.after(AdaptChange(target=script.made("Normalization"), fill=[1.0, 2.0]))
    named = {"X": np.array([[np.nan, 1.0], [3.0, np.inf]], "float32")}
    exec(text, named)
    np.testing.assert_allclose(named["norm"].adapt_mean, [2.0, 1.5])
    assert "# here" in text


def test_several_calls_of_adapt_are_left_alone():
    script = Script(
        "from keras import layers\na = layers.Normalization()\na.adapt(X)\na.adapt(Z)\n"
    )
    (reason,) = script.reasons(AdaptChange(target=script.made("Normalization"), fill=[1.0]))
    assert "adapt is called 2 times" in reason


def test_labels_outside_the_classes_go():
    import numpy as np

    script = Script("model.fit(X, y=load('y'), sample_weight=w)\n")
    text = script.after(RowsChange(fit=script.made("fit"), classes=3, finite=["sample_weight"]))
    model = fed(text, w=np.array([np.nan, 1, 2, 3]))
    assert model.kwargs["y"].tolist() == [2] and model.kwargs["sample_weight"].tolist() == [1]


def test_validation_data_by_one_name_and_from_a_function():
    for given, before in (("held_out", []), ("read(2)", ["held = read(2)"])):
        script = Script(f"import numpy as np\nmodel.fit(X, y, validation_data={given})\n")
        text = script.after(RowsChange(fit=script.made("fit"), first_label=1, held=3))
        name = "held" if before else given
        line = f"model.fit(X, y - 1, validation_data=({name}[0], {name}[1] - 1, {name}[2]))"
        assert text.splitlines() == ["import numpy as np", *before, line]


def test_the_model_keeps_its_own_input():
    script = Script(
        """
        import keras

        class Net(keras.Model):
            pass

        inputs = keras.Input((2,))
        net = Net(inputs, outputs=keras.layers.Dense(1)(inputs))
        """
    )
    change = LayerChange(
        target=script.made("Input"),
        side="after",
        layers=["keras.layers.Rescaling(0.5)"],
        role="scaled",
        model=script.made("Net"),
    )
    assert "net = Net(inputs, outputs=keras.layers.Dense(1)(scaled_inputs))" in script.after(change)


@pytest.mark.parametrize(
    "line", ["h = [m.fit(X, y) for m in models]", "if m.fit(X, y): pass", "f = lambda: m.fit(X, y)"]
)
def test_where_no_statement_can_stand_in_front_nothing_is_changed(line):
    script = Script(f"import numpy as np\n{line}\n")
    patch = script.patch(RowsChange(fit=script.made("fit"), finite=["x"]))
    assert patch.after == {} and "no statement can be put in front" in patch.left_over[0].reason


def test_a_line_shared_by_several_is_changed_only_for_all_of_them():
    script = Script("import keras\nlayers = [keras.layers.Dense(8, 'relu') for _ in range(3)]\n")
    change = lambda changed, value="'tanh'": ArgumentChange(  # noqa: E731
        target=script.made("Dense", made=3, changed=changed),
        name="activation",
        value=value,
        position=1,
    )
    assert "others, which have to stay as they are" in script.reasons(change(2))[0]
    assert "Dense(8, 'tanh')" in script.after(change(3))
    assert "Dense(8, 'tanh')" in script.after(runs=[[change(1)], [change(2)]])
    reasons = script.reasons(runs=[[change(1)], [change(2, "'sigmoid'")]])
    assert len(reasons) == 2 and "need different changes" in reasons[0]


def test_cells_and_copies_are_found_by_the_layer_that_made_them():
    script = Script("import keras\nlayer = keras.layers.Bidirectional(keras.layers.LSTM(8))\n")
    whole = script.made("Bidirectional", changed=2, made=2).model_copy(
        update={"callee": "LSTMCell"}
    )
    text = script.after(ArgumentChange(target=whole, name="activation", value="'tanh'", position=1))
    assert "Bidirectional(keras.layers.LSTM(8, activation=" in text


def test_unpacked_arguments_and_foreign_places_have_no_place():
    script = Script("import keras\nlayer = keras.layers.Dense(**options)\nmade = build()\n")
    change = ArgumentChange(
        target=script.made("Dense"), name="activation", value="'tanh'", position=1
    )
    assert "unpacked" in script.reasons(change)[0]
    foreign = change.model_copy(
        update={"target": script.made("build").model_copy(update={"callee": "Dense"})}
    )
    assert "no single call of Dense" in script.reasons(foreign)[0]
    assert script.reasons(NoPlace(reason="Keras' own")) == ["Keras' own"]
    assert (
        str(script.patch(NoPlace(reason="Keras' own")).left_over[0])
        == "fit call 1, lower-learning-rate: Keras' own"
    )


def test_a_fix_may_change_several_files():
    maker = Script(
        "import keras\n\ndef adam(rate):\n    return keras.optimizers.Adam(rate, epsilon=0.0)\n",
        "lib/making.py",
    )
    script = Script(
        "from lib.making import adam\nmodel.compile(adam(3.0), 'mse')\nmodel.fit(X, y)\n"
    )
    change = optimizer(
        maker.made("Adam"),
        fit=script.made("fit"),
        arguments={"learning_rate": "0.1", "epsilon": "1e-07"},
    )
    files = {path: digest(Path(path).read_bytes()) for path in change.paths}
    edits = [{"strategy": "lower-learning-rate", "learning_rate": 0.1}]
    run = RunRecord.model_validate({"outcome": "REPAIRED", "edits": edits, "source": [change]})
    patch = patch_of(FixFile(files=files, runs=[run]), Path())
    assert patch.after["lib/making.py"].endswith(b"Adam(rate, epsilon=1e-07)\n")
    assert patch.after["train.py"].endswith(
        b"model.optimizer.learning_rate = 0.1\nmodel.fit(X, y)\n"
    )
    assert str(patch).count("+++ b/") == 2


def test_a_change_of_which_a_part_has_no_place_is_not_made_at_all():
    script = Script(SEQUENTIAL)
    change = optimizer(
        script.made("SGD"),
        compiled=script.made("compile", made=2),
        arguments={"clipnorm": "1.0"},
        loss_scale=1.0,
    )
    patch = script.patch(change)
    assert (
        patch.after == {} and "others, which have to stay as they are" in patch.left_over[0].reason
    )


def test_different_changes_on_one_line_are_told_apart():
    script = Script("import keras\nlayers = [keras.layers.Dense(8), keras.layers.Dense(9)]\n")
    wanted = [
        ArgumentChange(target=script.made("Dense", n), name="activation", value=value, position=1)
        for n, value in enumerate(("'tanh'", "'sigmoid'"))
    ]
    assert script.after(*wanted).endswith(
        '[keras.layers.Dense(8, activation="tanh"), keras.layers.Dense(9, activation="sigmoid")]\n'
    )


def test_places_count_in_bytes():
    script = Script(
        "import keras\nnames = ['größe', 'höhe']; layer = keras.layers.Dense(8); other = "
        "keras.layers.Dense(9)\n"
    )
    text = script.after(
        ArgumentChange(
            target=script.made("Dense", 1), name="activation", value="'tanh'", position=1
        )
    )
    assert text.endswith(
        "layer = keras.layers.Dense(8); other = keras.layers.Dense(9, activation='tanh')\n"
    )


# Files.


def changed(text=SEQUENTIAL, path=PATH):
    script = Script(text, path)
    return script, script.patch(optimizer(script.made("SGD"), arguments={"learning_rate": "0.001"}))


@pytest.mark.parametrize(
    ("text", "path"),
    [
        (SEQUENTIAL, PATH),
        (SEQUENTIAL.rstrip(), "deep/er/no_newline_at_the_end.py"),
        (textwrap.dedent(SEQUENTIAL).replace("\n", "\r\n"), "windows.py"),
        (f"# größer\f\n{textwrap.dedent(SEQUENTIAL)}", "bytes.py"),
    ],
)
def test_the_diff_is_one_that_git_applies(folder, text, path):
    script, patch = changed(text, path)
    Path("fix.patch").write_bytes(patch.content)
    subprocess.run(["git", "apply", "fix.patch"], check=True, cwd=folder)
    assert (
        Path(path).read_bytes()
        == patch.after[path]
        == script.text.replace("SGD(0.1)", "SGD(0.001)").encode()
    )


def test_a_file_keeps_its_encoding():
    script = Script("# coding: latin-1\nimport keras  # gr\xf6\xdfe\nkeras.optimizers.SGD(0.1)\n")
    Path(PATH).write_bytes(script.text.encode("latin-1"))
    patch = script.patch(optimizer(script.made("SGD"), arguments={"learning_rate": "0.001"}))
    assert patch.after[PATH] == script.text.replace("0.1", "0.001").encode("latin-1")
    assert "größe".encode("latin-1") in patch.content and "SGD(0.001)" in str(patch)


def test_writing_keeps_a_copy_and_the_permissions():
    script, patch = changed()
    os.chmod(PATH, 0o750)
    Path("train.py.orig").write_text("an older one")
    assert apply_patch(patch, Path()) == {Path(PATH): Path("train.py.orig2")}
    assert (
        Path("train.py.orig2").read_text() == script.text
        and Path("train.py.orig").read_text() == "an older one"
    )
    assert "SGD(0.001)" in Path(PATH).read_text() and Path(PATH).stat().st_mode & 0o777 == 0o750


def test_a_file_that_has_changed_or_gone_is_refused():
    script = Script(SEQUENTIAL)
    content = FixFile(files={PATH: digest(b"another")}, runs=[])
    with pytest.raises(PatchError, match="has changed since"):
        patch_of(content, Path())
    shutil.move(PATH, "elsewhere.py")
    with pytest.raises(PatchError, match="Run it in the folder"):
        patch_of(content, Path())
    assert Path("elsewhere.py").read_text() == script.text


def test_a_patched_file_needs_no_patch_and_a_patched_and_changed_one_is_refused():
    script = Script(SEQUENTIAL)
    run = RunRecord.model_validate(
        {
            "outcome": "REPAIRED",
            "source": [optimizer(script.made("SGD"), arguments={"learning_rate": "0.001"})],
        }
    )
    fix = FixFile(files={PATH: digest(Path(PATH).read_bytes())}, runs=[run])
    apply_patch(patch_of(fix, Path()), Path())
    patch = patch_of(fix, Path())
    assert (patch.content, patch.after, patch.done) == (b"", {}, {PATH: Path("train.py.orig")})
    Path(PATH).write_text(Path(PATH).read_text() + "print('more')\n")
    with pytest.raises(PatchError, match="has changed since"):
        patch_of(fix, Path())


@pytest.mark.parametrize("linked", [False, True])
def test_files_outside_the_folder_are_left_alone(folder, linked):
    """Those of a library of the user's own, by their absolute path, or seen through a
    link in the folder.
    """
    project = folder / "project"
    project.mkdir()
    os.chdir(project)
    text, outside = (
        "import keras\n\ndef adam():\n    return keras.optimizers.Adam(3.0)\n",
        str(folder / "making.py"),
    )
    if linked:
        Path("making.py").symlink_to(outside)
        Path(outside).write_text(text)
    maker, script = (
        Script(text, "making.py" if linked else outside),
        Script("import keras\nkeras.optimizers.SGD(3.0)\n"),
    )
    changes = [
        optimizer(s.made(n), name=n, arguments={"learning_rate": "0.1"})
        for s, n in ((maker, "Adam"), (script, "SGD"))
    ]
    edits = [{"strategy": "lower-learning-rate", "learning_rate": 0.1}]
    source = [change.model_copy(update={"edits": [0]}) for change in changes]
    run = RunRecord.model_validate({"outcome": "REPAIRED", "edits": edits, "source": source})
    patch = patch_of(
        FixFile(
            files={path: digest(Path(path).read_bytes()) for path in (maker.path, PATH)}, runs=[run]
        ),
        Path(),
    )
    assert list(patch.after) == [PATH]
    assert (
        "lies outside this folder" in patch.left_over[0].reason
        and f"{maker.path}:4" in patch.left_over[0].reason
    )
    apply_patch(patch, Path())
    assert Path(outside).read_text() == text and "SGD(0.1)" in Path(PATH).read_text()


def test_changes_survive_json():
    script = Script(SEQUENTIAL)
    changes = [
        optimizer(script.made("SGD"), arguments={"learning_rate": "0.1", "clipnorm": None}),
        RowsChange(fit=script.made("fit"), labels=(0.0, 255.0)),
        NoPlace(edits=[0], reason="none"),
    ]
    run = RunRecord.model_validate({"outcome": "REPAIRED", "source": changes})
    assert RunRecord.model_validate_json(run.model_dump_json()).source == changes
