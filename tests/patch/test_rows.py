"""Rows, labels, holes and weights that a patch changes in front of fit."""

import textwrap
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from patched_scripts import PATH, Script

from nanfix.records.rows_change import FIT_ALONE, Band, RowsChange, UnknownTargets
from nanfix.records.source_changes import AdaptChange, ConstraintChange, LayerChange, WeightsChange

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


@pytest.mark.parametrize(
    ("center", "scale", "written"),
    [
        ([0.0, 0.0], [256.0, 256.0], "X / 256"),
        ([1.0, 1.0], [4.0, 4.0], "(X - 1) / 4"),
        ([1.0, 2.0], [4.0, 8.0], "(X - INPUT_CENTER) / INPUT_SCALE"),
    ],
)
def test_inputs_are_scaled_in_training_and_validation(center, scale, written):
    script = Script(FIT)
    band = Band(part="x", center=center, scale=scale)
    text = script.after(RowsChange(fit=script.made("fit"), scaled=band))
    x = np.array([[1.0, 2.0], [9.0, 18.0]])
    model = fed(text, X=x, X_held=x, y_held=x, weights=None)
    for given in (model.args[0], model.kwargs["validation_data"][0]):
        np.testing.assert_allclose(given, (x - center) / scale)
    assert written in text


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


def test_weights_are_constrained_in_front_of_fit():
    lines = ("from keras import layers", "", "net.fit(X)  # here")
    script = Script("\n".join(lines) + "\n")
    text = script.after(ConstraintChange(fit=script.made("fit"), least={0: 0.25}))
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
    model.compile(keras.optimizers.SGD(0.1), "mse")
    x = np.float32([[1.0], [2.0]])
    exec(text, {"X": x, "net": SimpleNamespace(weights=model.weights, fit=lambda x: None)})
    model.fit(x, -x, epochs=3, verbose=0)
    assert model.get_weights()[0] == [[0.25]]


@pytest.mark.parametrize("named", [True, False])
def test_holes_are_filled_in_a_dataset_that_a_layer_is_adapted_to(named):
    dataset = "tf.data.Dataset.from_tensor_slices(X).batch(2)"
    lines = (
        "import tensorflow as tf",
        "from keras import layers",
        f"data = {dataset}",
        "norm = layers.Normalization()",
        f"norm.adapt({'data' if named else dataset})  # here",
    )
    script = Script("\n".join(lines) + "\n")
    text = script.after(AdaptChange(target=script.made("Normalization"), fill=[1.0, 2.0]))
    names = {"X": np.float32([[np.nan, 4], [3, np.inf]])}
    exec(text, names)
    np.testing.assert_allclose(np.asarray(names["norm"].mean)[0], [2.0, 3.0])


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


def test_rows_with_a_negative_share_go():
    script = Script("import numpy as np\n\nmodel.fit(X, y)\n")
    text = script.after(RowsChange(fit=script.made("fit"), shares=True))
    model = fed(text, y=np.float32([[0, 1], [-1, 0], [1, 0], [0, -1]]))
    assert [len(part) for part in model.args] == [2, 2] and (model.args[1] >= 0).all()


def test_unknown_targets_are_weighed_with_0():
    script = Script("import numpy as np\n\nmodel.fit(X, y, sample_weight=w)\n")
    unknown = UnknownTargets(nonfinite=True, codes=[1e20, -999.0])
    text = script.after(RowsChange(fit=script.made("fit"), unknown=unknown))
    y = np.array([[1.0], [np.nan], [1e20], [-999.0]])
    for given in (y, y.astype("float32")):
        model = fed(text, y=given, w=np.full(4, 0.5))
        assert model.args[1].tolist() == [[1.0], [0.0], [0.0], [0.0]]
        assert model.kwargs["sample_weight"].tolist() == [0.5, 0.0, 0.0, 0.0]
    labels = UnknownTargets(classes=3, in_cells=False)
    model = fed(
        Script("import numpy as np\n\nmodel.fit(X, y)\n").after(
            RowsChange(fit=script.made("fit"), unknown=labels)
        ),
        y=np.array([[2, -100]]),
    )
    assert model.args[1].tolist() == [[2, 0]]
    assert model.kwargs["sample_weight"].tolist() == [[True, False]]


def test_validation_data_by_one_name_and_from_a_function():
    for given, before in (("held_out", []), ("read(2)", ["held = read(2)"])):
        script = Script(f"import numpy as np\nmodel.fit(X, y, validation_data={given})\n")
        text = script.after(RowsChange(fit=script.made("fit"), first_label=1, validation_arrays=3))
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


def test_what_fills_holes_of_training_and_validation_stands_once_and_no_line_is_idle():
    script = Script("model.fit(train[0], train[1], validation_data=(held[0], held[1]))\n")
    filled = RowsChange(fit=script.made("fit"), fill=[7.0, 8.0], validation_arrays=2)
    assert script.after(filled) == textwrap.dedent(
        """\
        import numpy as np

        INPUT_FILL = [7, 8]

        inputs = train[0]
        held_inputs = held[0]
        filled = np.where(np.isfinite(inputs), inputs, INPUT_FILL)
        filled_2 = np.where(np.isfinite(held_inputs), held_inputs, INPUT_FILL)
        model.fit(filled, train[1], validation_data=(filled_2, held[1]))
        """
    )


@pytest.mark.parametrize("fills", [7.0, 8.0])
def test_holes_are_filled_before_fit_where_the_layer_has_no_place_for_all(fills):
    """Two trainings of models of one place, which a layer can serve only where it is the same."""
    script = Script("m = build(keras.Input((1,)))\nm.fit(X, y)\nn.fit(X, y)\n")

    def wanted(nth, fill):
        target = script.made("Input", made=2)
        layer = LayerChange(
            target=target,
            side="after",
            layers=["keras.layers.Rescaling(2.0)"],
            role="scaled",
            numbers={"FILL": [fill]},
            fills=True,
        )
        return [layer, RowsChange(fit=script.made("fit", nth), fill=[fill], instead=True)]

    runs = [wanted(0, 7.0), wanted(1, fills)]
    left, text = script.reasons(runs=runs), script.patch(runs=runs).after[PATH].decode()
    assert len(left) == 2 and all(reason.endswith(FIT_ALONE) for reason in left)
    assert text.count("np.isfinite") == 2
