"""Another optimizer in the place of the one that a script trains with, wherever it is made."""

import pytest
from patched_scripts import Script, optimizer

from nanfix.records.source_places import Made

NEW = "keras.optimizers.Adam(learning_rate=0.003)"


def swapped(script, place, compiled=0, **counts):
    """Return the change to Adam of an SGD that the call `place`, as in `Script.made`, has made."""
    target = None if place is None else script.made(*place, **counts)
    target = None if target is None else Made(**{**target.model_dump(), "callee": "SGD"})
    made = None if compiled is None else script.made("compile", compiled)
    return optimizer(target, compiled=made, new_class="Adam", arguments={"learning_rate": "0.003"})


@pytest.mark.parametrize(
    ("made", "call"),
    [
        ("keras.optimizers.get({'class_name': 'sgd', 'config': {'learning_rate': RATE}})", "get"),
        ("keras.optimizers.deserialize(settings)", "deserialize"),
        ("keras.optimizers.SGD.from_config(settings)", "from_config"),
        ("getattr(keras.optimizers, name)(0.1)", ""),
        ("OPTIMIZERS[name](0.1)", ""),
    ],
)
@pytest.mark.parametrize("compiled", ["compile(optimizer=made, loss='mse')", "compile({})"])
def test_an_optimizer_made_of_a_description_or_of_a_class_that_is_looked_up(made, call, compiled):
    text = "import keras\n{}model." + compiled.format("{}") + "\n"
    text = text.format(*(("", "{}") if "made" not in compiled else ("made = {}\n",)))
    script = Script(text.format(made))
    assert script.after(swapped(script, (call,))) == text.format(NEW)


@pytest.mark.parametrize("given", ["make()", "make() if fast else 'sgd'"])
def test_an_optimizer_of_a_helper_that_makes_others_too_is_written_where_it_is_compiled(given):
    helper = "import keras\ndef make():\n    return keras.optimizers.SGD(0.1)\n"
    one = Script(f"{helper}a.compile({given}, 'mse')\nb.compile(make(), 'mse')\n")
    expected = one.text.replace(f"a.compile({given}", f"a.compile({NEW}")
    assert one.after(swapped(one, ("SGD",), made=2)) == expected
    named = Script(f"{helper}opt = {given}\na.compile(opt)\nb.compile(make())\n")
    expected = named.text.replace(f"opt = {given}", f"opt = {NEW}")
    assert named.after(swapped(named, ("SGD",), made=2)) == expected


def test_an_optimizer_that_a_function_is_given_is_written_where_it_compiles():
    script = Script("import keras\ndef train(model, opt):\n    model.compile(opt, 'mse')\n")
    assert script.after(swapped(script, None)) == script.text.replace("opt, 'mse'", f"{NEW}, 'mse'")


def test_what_compile_makes_of_a_setting_is_its_own():
    """Keras makes the optimizer there, of a name that other lines may use for what they like."""
    script = Script("import keras\nmodel.compile(optimizer=cfg['optimizer'], loss='mse')\n")
    expected = script.text.replace("cfg['optimizer']", NEW)
    assert script.after(swapped(script, ("compile",))) == expected


@pytest.mark.parametrize(
    "lines",
    [
        "opt = make()\nmodel.compile(opt)\nsave(opt)",
        "opt = TABLE['sgd']\nmodel.compile(opt)",
        "opt, rate = make()\nmodel.compile(opt)",
        "model.compile(self.opt)",
        "from settings import opt\nmodel.compile(opt)",
    ],
)
def test_an_optimizer_that_something_else_uses_is_left_alone(lines):
    script = Script(f"import keras\n{lines}\n")
    assert "other lines may use the optimizer" in script.reasons(swapped(script, None))[0]
    nowhere = swapped(script, None, compiled=None)
    assert "the call of compile is not in" in script.reasons(nowhere)[0]


@pytest.mark.parametrize(
    ("imports", "package"),
    [
        ("import tensorflow as tf", "tf.keras.optimizers"),
        ("from tensorflow.keras import optimizers", "optimizers"),
        ("from keras import optimizers as opts", "opts"),
    ],
)
def test_keras_goes_by_the_name_that_the_script_has_for_it(imports, package):
    script = Script(f"{imports}\nopt = {package}.get(settings)\nmodel.compile(opt)\nsave(opt)\n")
    expected = script.text.replace("get(settings)", "Adam(learning_rate=0.003)")
    assert script.after(swapped(script, ("get",))) == expected
