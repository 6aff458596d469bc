"""Layers that a patch adds: in lists, one by one, in graphs and in classes."""

import textwrap

import pytest
from patched_scripts import PATH, SEQUENTIAL, Script

from nanfix.records.source_changes import (
    CallChange,
    LayerChange,
)

MEANS = {"MEAN": [1.5, -2.0], "VARIANCE": [4.0, 9.0]}
NORMALIZATION = "keras.layers.Normalization(mean=MEAN, variance=VARIANCE)"


def halved(script):
    """Return the change by which the first input of a script is scaled."""
    layers = ["keras.layers.Rescaling(0.5)"]
    return LayerChange(target=script.made("Input"), side="after", layers=layers, role="scaled")


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
        halved(script),
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
        inputs=[{"layers": [NORMALIZATION], "numbers": MEANS}],
        outputs=("3.0", "-1.0"),
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
        "return 3.0 * self.out(inputs) - 1.0\n" in text
        and "return 3.0 * (self.out(inputs) + 0) - 1.0\n" in text
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


@pytest.mark.parametrize(
    ("used", "new"),
    [
        ("m = keras.Sequential([norm, keras.layers.Dense(1)])", "([keras.layers.ReLU(), norm,"),
        ("m.add(norm)", "m.add(keras.layers.ReLU())\nm.add(norm)"),
        ("h = norm(x)", "h = norm(keras.layers.ReLU()(x))"),
    ],
)
def test_a_layer_with_a_name_of_its_own_is_found_where_it_is_put_into_the_model(used, new):
    script = Script(
        f"import keras\nnorm = keras.layers.Normalization()\nnorm.adapt(data)\n{used}\n"
    )
    change = LayerChange(
        target=script.made("Normalization"),
        side="before",
        layers=["keras.layers.ReLU()"],
        role="scaled",
    )
    assert new in script.after(change)


def test_a_layer_with_a_name_that_is_used_twice_has_no_place_of_its_own():
    script = Script("import keras\nd = keras.layers.Dense(1)\na = d(x)\nb = d(z)\n")
    change = LayerChange(
        target=script.made("Dense"), side="before", layers=["keras.layers.ReLU()"], role="scaled"
    )
    (left_over,) = script.patch(change).left_over
    assert left_over.reason == "d is used 2 times, which is not once"


def test_inputs_that_are_unpacked_are_scaled_each_by_its_own_name():
    script = Script(
        "import keras\na, b = keras.Input((2,)), keras.Input((1,))\n"
        "h = keras.layers.Concatenate()([a, b])\nm = keras.Model([a, b], h)\n"
    )
    after = script.after(halved(script))
    assert after == (
        "import keras\na, b = keras.Input((2,)), keras.Input((1,))\n"
        "scaled_a = keras.layers.Rescaling(0.5)(a)\n"
        "h = keras.layers.Concatenate()([scaled_a, b])\nm = keras.Model([a, b], h)\n"
    )


def test_a_model_that_begins_with_the_input_is_given_it_as_it_is():
    script = Script(
        "import keras\nx = keras.Input((2,))\ncode = keras.layers.Dense(1)(x)\n"
        "encoder = keras.Model(x, code)\nother = keras.Sequential([keras.layers.Dense(1)])\n"
        "m = keras.Model(x, [encoder(x), other(x)])\n"
    )
    after = script.after(halved(script))
    assert "keras.layers.Dense(1)(scaled_x)\nencoder = keras.Model(x, code)\n" in after
    assert "[encoder(x), other(scaled_x)]" in after
