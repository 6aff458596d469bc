"""The patch of a scaling where a model is built as it trains: the patched script trains, too."""

import keras
import numpy as np
import pytest
from located import SEQUENTIAL, SUBCLASSED, patched, plan_of

from nanfix.changes.maps import Affine, Power
from nanfix.changes.scaling import Scaling
from nanfix.model.addresses import SINGLE

WITHOUT_INPUT = SEQUENTIAL.replace("model.add(keras.Input((3,)))\n", "")
WHOLE = {  # of a model that is built as it trains, its patch has to train as well
    "added one by one": WITHOUT_INPUT,
    "listed": """
import keras
import numpy as np
from keras import layers

X = np.random.default_rng(0).normal(size=(40, 3)).astype("float32")
model = keras.Sequential([layers.Dense(2), layers.Dense(1)])
model.compile("sgd", "mse")
model.fit(X, X[:, 0], verbose=0)
""",
    "of a class of its own": SUBCLASSED,
}


@pytest.mark.parametrize("script", WHOLE.values(), ids=WHOLE)
@pytest.mark.parametrize(
    "scaling",
    [
        Affine((1.0, 2.0, 3.0), (1.0, 1.0, 2.0)),
        Affine((1.0,) * 3, (2.0,) * 3),
        Power(
            Affine((1.0, 2.0, 3.0), (1.0, 1.0, 2.0)),
            (0.5, 1.5, -0.2),
            Affine((0.1, 0.2, 0.3), (1.0, 1.1, 1.2)),
        ),
    ],
    ids=["columns", "all alike", "power"],
)
def test_a_model_that_is_built_as_it_trains_trains_with_its_patch(
    noted, monkeypatch, script, scaling
):
    fit = keras.Model.fit
    run, call = noted(script)
    patch = patched(run, plan_of(Scaling(inputs={SINGLE: scaling})), call)
    assert patch.left_over == ()
    monkeypatch.setattr(keras.Model, "fit", fit)
    names = {}
    exec(patch.after["train.py"], names)
    sample = np.array([[4.0, 3.0, -1.0]])
    predicted = names["model"].predict(sample, verbose=0)
    assert names["model"].built and np.isfinite(predicted).all()
