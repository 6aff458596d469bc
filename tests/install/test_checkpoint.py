"""What a ModelCheckpoint writes in a repaired training is the repaired model, for raw inputs."""

import explosions
import keras
import numpy as np
import pytest

import nanfix


def repaired(build, path, strategies=None, **options):
    model, x, y, arguments = build()
    checkpoint = keras.callbacks.ModelCheckpoint(path, **options)
    report = nanfix.fit(
        model, x, y, **{**arguments, "callbacks": [checkpoint]}, strategies=strategies
    )
    assert report.outcome.has_fix
    return model, x, report


class Saves(keras.callbacks.Callback):
    """Saves the model by itself, as callbacks of experiment trackers do."""

    def __init__(self, path):
        super().__init__()
        self.path = path

    def on_epoch_end(self, epoch, logs=None):
        self.model.save(self.path)


@pytest.fixture(scope="module")
def scaled(tmp_path_factory):
    """A model whose inputs were scaled while several callbacks saved it: model, x, report and the
    folder.
    """
    folder = tmp_path_factory.mktemp("scaled")
    model, x, y, arguments = explosions.unscaled_inputs()
    # The worst epoch, which is not the last.
    worst = {"save_best_only": True, "monitor": "val_loss", "mode": "max"}
    callbacks = [
        keras.callbacks.ModelCheckpoint(folder / "last.keras"),
        keras.callbacks.ModelCheckpoint(folder / "best.keras", **worst),
        Saves(folder / "own.keras"),
    ]
    report = nanfix.fit(
        model, x, y, **{**arguments, "callbacks": callbacks}, strategies=["scale-inputs"]
    )
    assert report.outcome.has_fix
    return model, x, report, folder


def assert_last_file_is(model, x, path):
    saved = keras.models.load_model(path)
    np.testing.assert_allclose(
        saved.predict(x, verbose=0), model.predict(x, verbose=0), rtol=1e-4, atol=1e-4
    )


def test_file_of_the_last_epoch_is_the_final_model(scaled, tmp_path):
    model, x, _, folder = scaled
    assert_last_file_is(model, x, folder / "last.keras")
    model, x, _ = repaired(
        explosions.learning_rate, tmp_path / "last.keras", ["lower-learning-rate"]
    )
    assert_last_file_is(model, x, tmp_path / "last.keras")


def test_weights_of_the_best_epoch_answer_in_the_users_units(tmp_path):
    path = tmp_path / "best.weights.h5"
    options = {"save_best_only": True, "save_weights_only": True, "monitor": "val_loss"}
    model, x, report = repaired(explosions.large_targets, path, ["scale-targets"], **options)
    _, _, y, _ = explosions.large_targets()
    model.load_weights(path)
    held = slice(int(len(x) * 0.8), None)
    assert model.evaluate(x[held], y[held], verbose=0) == pytest.approx(
        min(report.history["val_loss"]), rel=1e-3
    )


def test_logits_are_kept_out_of_the_file(tmp_path):
    model, x, _ = repaired(explosions.handwritten_log, tmp_path / "last.keras", ["logits-loss"])
    saved = keras.models.load_model(tmp_path / "last.keras", compile=False)
    np.testing.assert_allclose(saved.predict(x, verbose=0), model.predict(x, verbose=0), atol=1e-6)


def test_a_file_of_each_epoch_holds_the_layer_that_the_model_gets(tmp_path):
    model, x, _ = repaired(
        explosions.missing_cells, tmp_path / "{epoch:02d}.keras", ["impute-nonfinite"]
    )
    paths = sorted(tmp_path.glob("*.keras"))
    assert [path.name for path in paths] == ["01.keras", "02.keras", "03.keras"]
    first, _, last = (keras.models.load_model(path).predict(x, verbose=0) for path in paths)
    np.testing.assert_array_equal(last, model.predict(x, verbose=0))
    assert np.isfinite(first).all() and not np.array_equal(first, last)


def test_a_callback_that_saves_the_model_itself_writes_the_repaired_one(scaled):
    model, x, _, folder = scaled
    assert "save" not in vars(model)
    saved = keras.models.load_model(folder / "own.keras")
    np.testing.assert_array_equal(saved.predict(x, verbose=0), model.predict(x, verbose=0))


def test_only_the_best_epoch_is_saved_where_that_is_asked_for(scaled):
    _, x, report, folder = scaled
    _, _, y, _ = explosions.unscaled_inputs()
    held = slice(int(len(x) * 0.8), None)
    saved = keras.models.load_model(folder / "best.keras")
    losses = report.history["val_loss"]
    assert (
        saved.evaluate(x[held], y[held], verbose=0) == pytest.approx(max(losses), rel=1e-4)
        and max(losses) != losses[-1]
    )
