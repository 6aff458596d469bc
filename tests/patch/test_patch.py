"""Changes of the source, without TensorFlow: where they go, what they leave alone, and
what has no place.
"""

import pytest
from patched_scripts import SEQUENTIAL, Script, optimizer

from nanfix.records.rows_change import RowsChange
from nanfix.records.source_changes import ArgumentChange, LossChange, NoPlace


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
    (reason,) = script.reasons(optimizer(shared, new_class="Adam"))
    assert "also makes others, which have to stay as they are" in reason


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


def test_a_loss_is_weighed_only_where_its_outputs_are_scaled_back():
    """Without that the weight makes each step smaller, or under Adam does nothing at all."""
    script = Script(SEQUENTIAL)
    nowhere = NoPlace(reason="the last layer is made elsewhere")
    weighed = LossChange(compiled=script.made("compile"), weight="1 / 3000.0**2")
    patch = script.patch(nowhere, weighed)
    assert patch.after == {} and [each.reason for each in patch.left_over] == [nowhere.reason]
    patch = script.patch(nowhere, weighed.model_copy(update={"loss": '"mae"'}))
    assert 'loss="mae")' in patch.after[script.path].decode()


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
