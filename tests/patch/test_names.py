"""The names that a file has for packages."""

import libcst as cst
import pytest

from nanfix.patch._names import LocalNames


@pytest.mark.parametrize(
    ("imports", "written", "missing"),
    [
        ("import numpy", "numpy.log(keras.x)", ["import keras"]),
        ("from keras import ops\nimport numpy as np", "np.log(keras.x)", ["import keras"]),
        ("import tensorflow as t, numpy as n", "n.log(t.keras.x)", []),
        ("import tensorflow.keras", "np.log(tensorflow.keras.x)", ["import numpy as np"]),
        (
            "try:\n    import keras\nexcept ImportError:\n    from tensorflow import keras",
            "np.log(keras.x)",
            ["import numpy as np"],
        ),
        (
            "if TYPE_CHECKING:\n    import keras as k",
            "np.log(keras.x)",
            ["import numpy as np", "import keras"],
        ),
        (
            "def f():\n    import keras as k",
            "np.log(keras.x)",
            ["import numpy as np", "import keras"],
        ),
        (
            "from .own import keras as k\nfrom other import *",
            "np.log(keras.x)",
            ["import numpy as np", "import keras"],
        ),
    ],
)
def test_code_is_written_in_the_files_own_names(imports, written, missing):
    names, found = LocalNames(cst.parse_module(imports), []), []
    code = names.written(cst.parse_expression("np.log(keras.x)"), found)
    assert (cst.Module([]).code_for_node(code), found) == (written, missing)


def test_an_imported_name_is_known_by_the_librarys_own():
    names = LocalNames(
        cst.parse_module("from keras.layers import Dense as D, Input\nimport tensorflow as tf"), []
    )
    assert [names.original(name) for name in ("D", "Input", "tf")] == ["Dense", "Input", "tf"]
    assert names.full("tf.math.log") == "tensorflow.math.log"
