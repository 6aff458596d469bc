"""Inputs that a model's own call scales, by a patch: of a tuple, of a dict, of a class without an
`__init__`.
"""

import pytest
from patched_scripts import PATH, Script

from nanfix.records.source_changes import CallChange

IN_CALL = """
import keras

class Net(keras.Model):
    {init}
    def call(self, inputs):
        return inputs

net = Net()
"""
INIT = "def __init__(self):\n        super().__init__()\n"
HALF = "keras.layers.Rescaling(0.5)"


@pytest.mark.parametrize(
    ("keys", "count", "init", "lines"),
    [
        (
            [1],
            3,
            INIT,
            [
                "        self.scale_1 = keras.layers.Rescaling(0.5)",
                "        inputs = (inputs[0], self.scale_1(inputs[1]), inputs[2])",
            ],
        ),
        (
            ["wind kph", "rain"],
            3,
            INIT,
            [
                "        self.scale_wind_kph = keras.layers.Rescaling(0.5)",
                "        self.scale_rain = keras.layers.Rescaling(0.5)",
                '        inputs = {**inputs, "wind kph": self.scale_wind_kph(inputs["wind kph"])'
                ', "rain": self.scale_rain(inputs["rain"])}',
            ],
        ),
        (
            [None],
            1,
            "",
            [
                "    def __init__(self, *args, **kwargs):",
                "        super().__init__(*args, **kwargs)",
                "        self.scale_inputs = keras.layers.Rescaling(0.5)",
                "        inputs = self.scale_inputs(inputs)",
            ],
        ),
    ],
    ids=["a tuple", "a dict", "without __init__"],
)
def test_of_several_inputs_a_call_scales_those_that_are_named(keys, count, init, lines):
    script = Script(IN_CALL.format(init=init))
    inputs = [{"key": key, "layers": [HALF]} for key in keys]
    change = CallChange(
        file=PATH,
        line=script.line("def call"),
        target=script.made("Net"),
        inputs=inputs,
        count=count,
    )
    text = script.after(change)
    added = [line for line in text.splitlines() if line and line not in script.text.splitlines()]
    assert added == lines
