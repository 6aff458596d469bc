"""Where constants and definitions come to stand in a file."""

import pytest
from patched_scripts import Script

from nanfix.records.source_changes import LayerChange

HEAD = "import keras\n\nm = keras.Sequential([keras.Input((9,)), keras.layers.Dense(1)])\n"


@pytest.mark.parametrize("late", ["", "\nimport sys\n\nprint(m)\n"], ids=["at once", "late"])
def test_constants_stand_in_front_of_what_uses_them(late):
    script = Script(HEAD + late)
    after = script.after(
        LayerChange(
            target=script.made("Input"),
            side="after",
            layers=["keras.layers.Normalization(mean=MEAN, variance=VARIANCE)"],
            role="scaled",
            numbers={"MEAN": [1.23456] * 9, "VARIANCE": [4.56789] * 9},
        )
    )
    assert after.index("import keras") < after.index("INPUT_MEAN = [") < after.index("m = keras")
    exec(compile(after, "patched.py", "exec"), {})
