"""Settings that the tests of patches share."""

import sys
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def noted(monkeypatch, folder):
    """Run a script whose fit only notes the call; return what there is to know of it:
    the run and the call.
    """
    # Here, since most tests of patches need no TensorFlow.
    import keras
    import watching

    from nanfix.data.training_data import TrainingData
    from nanfix.explain.description import describe
    from nanfix.source.creation_sites import Places
    from nanfix.source.fit_call import FitCall

    watching.put_back(monkeypatch)

    def start(text, **names):
        places, found = Places(), {}
        places.install(keras)

        def fit(model, x, y=None, **arguments):
            place = places.called("fit", sys._getframe(1))
            found["call"] = FitCall.of(places, model, place, {"x": x, "y": y, **arguments})
            data = TrainingData.of(x, y, arguments)
            first = list(x.take(1)) if hasattr(x, "take") and not hasattr(x, "dtype") else []
            found["run"], _ = describe(model, data, first)

        monkeypatch.setattr(keras.Model, "fit", fit)
        Path("train.py").write_text(text)
        exec(
            compile(text, "train.py", "exec"),
            {"by_hand": lambda a, b: keras.ops.mean(a * b), **names},
        )
        return found["run"], found["call"]

    return start
