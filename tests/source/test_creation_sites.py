"""Where a script makes things: to the column, through libraries and nanfix, and nothing
is kept alive or changed.
"""

import gc
import textwrap
import weakref

import keras
import pytest
import watching

from nanfix.changes.insertion import layer_normalization
from nanfix.model.user_code import is_own, is_users
from nanfix.source.creation_sites import Places


@pytest.fixture
def places(monkeypatch):
    watching.put_back(monkeypatch)
    places = Places()
    places.install(keras)
    return places


def run(text):
    """Run a script and return its names, with its text."""
    names = {}
    text = textwrap.dedent(text)
    exec(compile(text, "train.py", "exec"), names)
    return names, text


def code(text, made):
    """Return what stands at a place."""
    place = made.place
    lines = [line.encode() for line in text.splitlines()][place.line - 1 : place.end_line]
    lines[-1] = lines[-1][: place.end_column]
    lines[0] = lines[0][place.column :]
    return b"\n".join(lines).decode()


def test_every_kind_of_thing_has_the_call_that_made_it(places):
    names, text = run(
        """
        import keras
        from keras import layers

        class Net(keras.Model):
            def __init__(self):
                super().__init__()
                self.lstm = layers.LSTM(3)

        class Own(layers.Dense):
            def __init__(self, *args):
                super().__init__(*args)

        inputs = keras.Input((4,))
        größe, own = layers.Dense(2), Own(1)
        model = keras.Model(
            inputs, own(größe(inputs)),
        )
        net = Net()
        rates = keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.5)
        adam = keras.optimizers.Adam(rates)
        model.compile(adam, "mse")
        """
    )
    found = {
        name: code(text, places.of(names[name]))
        for name in ("größe", "own", "model", "net", "rates", "adam")
    }
    assert found == {
        "größe": "layers.Dense(2)",
        "own": "Own(1)",
        "model": "keras.Model(\n    inputs, own(größe(inputs)),\n)",
        "net": "Net()",
        "rates": "keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.5)",
        "adam": "keras.optimizers.Adam(rates)",
    }
    assert code(text, places.of(names["model"].layers[0])) == "keras.Input((4,))"
    assert code(text, places.of(names["net"].lstm.cell)) == "layers.LSTM(3)"
    assert code(text, places.compiled(names["model"])) == 'model.compile(adam, "mse")'
    assert str(places.of(names["adam"]).place) == "train.py:21"


def test_what_one_call_has_made_is_counted(places):
    names, _ = run(
        "import keras\nlayers = [keras.layers.Dense(2) for _ in range(3)]\n"
        "other = keras.layers.Dense(1)\n"
    )
    assert [places.of(layer).made for layer in (*names["layers"], names["other"])] == [3, 3, 3, 1]
    assert sorted(count for _, callee, count in places.counts if callee == "Dense") == [1, 3]


def test_what_keras_makes_of_a_description_has_the_place_of_compile(places):
    text = (
        "import keras\nmodel = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])\n"
        "model.compile({'optimizer': 'sgd'}['optimizer'])\n"
    )
    names, _ = run(text)
    made = places.of(names["model"].optimizer)
    assert made.place == places.compiled(names["model"]).place and made.callee == "SGD"


def test_what_nanfix_makes_by_itself_has_no_place(places):
    run("import keras")
    assert places.of(layer_normalization()) is None
    assert places.of(object()) is None and places.compiled(keras.Sequential()) is None


def test_nothing_is_kept_alive(places):
    names, _ = run("import keras\nlayer = keras.layers.Dense(2)\n")
    gone = weakref.ref(names.pop("layer"))
    gc.collect()
    assert gone() is None


def test_models_are_built_saved_and_copied_as_ever(places, tmp_path):
    names, _ = run(
        """
        import keras

        @keras.saving.register_keras_serializable("test_creation_sites")
        class Own(keras.layers.Layer):
            def __init__(self, units, **kwargs):
                super().__init__(**kwargs)
                self.units = units

            def call(self, inputs):
                return inputs * self.units

        model = keras.Sequential([keras.Input((2,)), Own(3), keras.layers.Dense(1)])
        """
    )
    model = names["model"]
    # Keras keeps the arguments of __init__ by itself.
    assert model.layers[0].get_config()["units"] == 3
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert [type(layer) for layer in keras.models.clone_model(again).layers] == [
        names["Own"],
        keras.layers.Dense,
    ]


def test_files_are_named_from_where_the_script_was_started(places, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    places = Places()
    monkeypatch.chdir("/")
    assert (
        places.relative(str(tmp_path / "sub" / "train.py"))
        == "sub/train.py"
        == places.relative("sub/train.py")
    )
    assert places.relative("/elsewhere/train.py") == "/elsewhere/train.py"
    assert places.absolute("sub/train.py") == str(tmp_path / "sub" / "train.py")
    assert places.file("test_creation_sites.py") is not None and places.file("absent.py") is None


def test_whose_code_it_is():
    import nanfix.remedies.fix

    assert is_users("train.py") and is_users(__file__) and is_own(nanfix.remedies.fix.__file__)
    for file in (keras.__file__, textwrap.__file__, "<string>", nanfix.remedies.fix.__file__):
        assert not is_users(file)


def test_who_has_trained_a_part_of_a_model_last(places):
    def model(*parts):
        return keras.Sequential([*parts, keras.layers.Dense(1)])

    part, other = model(), model()
    first, second = model(part), model(part, other)
    assert not places.trained_by_another(part, first)
    places.trains(first)
    assert not places.trained_by_another(part, first)
    assert places.trained_by_another(part, second)
    assert not places.trained_by_another(other, second)
    places.trains(other)
    assert places.trained_by_another(other, second)
    del first
    gc.collect()
    assert places.trained_by_another(part, second)
