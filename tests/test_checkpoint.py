"""What a ModelCheckpoint writes in a repaired training is the repaired model, for raw inputs."""

import explosions
import keras
import numpy as np
import pytest

import nanfix
from nanfix import Outcome


def repaired(build, path, strategies=None, **options):
    model, x, y, arguments = build()
    checkpoint = keras.callbacks.ModelCheckpoint(path, **options)
    report = nanfix.fit(model, x, y, **{**arguments, "callbacks": [checkpoint]}, strategies=strategies)
    assert report.outcome is Outcome.REPAIRED
    return model, x, report


@pytest.mark.parametrize(
    ("build", "strategy"), [(explosions.unscaled_inputs, "scale-inputs"), (explosions.learning_rate, "lower-learning-rate")]
)
def test_file_of_the_last_epoch_is_the_final_model(tmp_path, build, strategy):
    model, x, _ = repaired(build, tmp_path / "last.keras", [strategy])
    saved = keras.models.load_model(tmp_path / "last.keras")
    np.testing.assert_allclose(saved.predict(x, verbose=0), model.predict(x, verbose=0), rtol=1e-4, atol=1e-4)


def test_weights_of_the_best_epoch_answer_in_the_users_units(tmp_path):
    path = tmp_path / "best.weights.h5"
    options = {"save_best_only": True, "save_weights_only": True, "monitor": "val_loss"}
    model, x, report = repaired(explosions.large_targets, path, ["scale-targets"], **options)
    _, _, y, _ = explosions.large_targets()
    model.load_weights(path)
    held = slice(int(len(x) * 0.8), None)
    assert model.evaluate(x[held], y[held], verbose=0) == pytest.approx(min(report.history["val_loss"]), rel=1e-3)


def test_logits_are_kept_out_of_the_file(tmp_path):
    model, x, _ = repaired(explosions.handwritten_log, tmp_path / "last.keras", ["logits-loss"])
    saved = keras.models.load_model(tmp_path / "last.keras", compile=False)
    np.testing.assert_allclose(saved.predict(x, verbose=0), model.predict(x, verbose=0), atol=1e-6)


def test_model_that_gets_a_layer_is_saved_in_the_end(tmp_path):
    model, x, _ = repaired(explosions.missing_cells, tmp_path / "{epoch:02d}.keras", ["impute-nonfinite"])
    (path,) = tmp_path.glob("*.keras")
    assert path.name == "03.keras"
    saved = keras.models.load_model(path)
    np.testing.assert_allclose(saved.predict(x, verbose=0), model.predict(x, verbose=0), atol=1e-5)
