"""A saved model is trained, repaired, and the fix proved on a fresh copy; nothing is
written but that.
"""

import keras
import numpy as np
import pytest

from nanfix.cli._saved_models import SavedModel, diagnose_saved, plan_saved, repair_saved
from nanfix.records.errors import InputError, NanfixError
from nanfix.report.fix_file import load
from nanfix.report.report import Outcome

ROWS = 160


@pytest.fixture
def folder(monkeypatch, tmp_path):
    """Work in a folder with a model of raw columns and the data, which explode by SGD at 0.1."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    x = rng.uniform(0.0, 300.0, (ROWS, 2)).astype("float32")
    y = (x @ [0.01, -0.02]).astype("float32")
    np.savez("d.npz", X=x, y=y, X_val=x[:40], y_val=y[:40])
    rows = "".join(f"{a},{b},{c}\n" for (a, b), c in zip(x, y, strict=True))
    (tmp_path / "d.csv").write_text("width,height,price\n" + rows)
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((2,)), keras.layers.Dense(8, "leaky_relu"), keras.layers.Dense(1)],
        name="prices",
    )
    model.compile(keras.optimizers.SGD(0.1), "mse")
    model.save("m.keras")
    return tmp_path


def subject(folder, data="d.npz", **changes):
    known = {"epochs": 5, "batch_size": 16, "verbose": 0, **changes}
    return SavedModel(
        folder / "m.keras", folder / data, "price" if data.endswith("csv") else None, **known
    )


def outputs(folder):
    return {"out": folder / "fix.json", "model_out": folder / "repaired.keras"}


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_model_and_a_table_are_repaired_and_the_fix_proved(folder):
    before = (folder / "m.keras").read_bytes()
    options = {"strategies": ["scale-inputs"], "run_dir": folder / "run"}
    result = repair_saved(subject(folder, "d.csv", seed=3), **outputs(folder), **options)
    assert result.code == 0 and (result.written, result.model) == (
        folder / "fix.json",
        folder / "repaired.keras",
    )
    (call,) = result.calls
    assert (call.model, call.outcome, call.proof, call.finite) == (
        "prices",
        Outcome.REPAIRED,
        "works",
        True,
    )
    (run,) = load(folder / "fix.json").runs
    assert run.edits and run.proof == "works" and run.seed == 3 and run.diagnosis is not None
    assert run.fingerprint["data"] == [[[[ROWS, 2], "float32"]], [[[ROWS], "float32"]]]
    data = np.load(folder / "d.npz")
    predicted = keras.saving.load_model("repaired.keras").predict(data["X"], verbose=0)[:, 0]
    assert np.mean((predicted - data["y"]) ** 2) < 0.5 * np.var(data["y"])
    assert (folder / "m.keras").read_bytes() == before
    assert names(folder) == ["d.csv", "d.npz", "fix.json", "m.keras", "repaired.keras", "run"]
    assert (folder / "run" / "fix.json").read_text() == (folder / "fix.json").read_text()
    assert (folder / "run" / "call-0" / "model.keras").is_file()


def test_a_plan_writes_nothing(folder):
    result = plan_saved(subject(folder), forbid=["scale-inputs"])
    (call,) = result.calls
    assert result.code == 0 and call.diagnosis is not None and call.candidates
    assert all(edit["strategy"] != "scale-inputs" for fix in call.candidates for edit in fix)
    assert names(folder) == ["d.csv", "d.npz", "m.keras"]


def test_a_diagnosis_writes_nothing(folder):
    (call,) = diagnose_saved(subject(folder)).calls
    assert (
        call.diagnosis is not None
        and call.diagnosis.cause == "UNSCALED_INPUT"
        and "Cause: " in call.text
    )
    model = keras.saving.load_model("m.keras")
    model.set_weights([weight * np.nan for weight in model.get_weights()])
    model.save("m.keras")
    (call,) = diagnose_saved(subject(folder)).calls
    assert call.diagnosis is not None and call.diagnosis.cause == "NONFINITE_START"
    assert names(folder) == ["d.csv", "d.npz", "m.keras"]


def test_code_in_a_model_is_not_run_without_trust(folder):
    layers = [keras.layers.Lambda(lambda x: x / 300.0, output_shape=(2,)), keras.layers.Dense(1)]
    model = keras.Sequential([keras.Input((2,)), *layers])
    model.compile("sgd", "mse")
    model.save("m.keras")
    with pytest.raises(InputError, match="add --trust-model"):
        repair_saved(subject(folder), **outputs(folder))
    assert names(folder) == ["d.csv", "d.npz", "m.keras"]
    assert (
        repair_saved(subject(folder, trusted=True), **outputs(folder)).calls[0].outcome
        is Outcome.HEALTHY
    )


def test_what_holds_nothing_or_fails_nothing_writes_nothing(folder):
    result = repair_saved(subject(folder), **outputs(folder), strategies=["reset-moments"])
    assert (result.code, result.calls[0].outcome, result.written, result.model) == (
        4,
        Outcome.EXHAUSTED,
        None,
        None,
    )
    model = keras.saving.load_model("m.keras")
    model.compile(keras.optimizers.SGD(1e-6), "mse")
    model.save("m.keras")
    result = repair_saved(subject(folder), **outputs(folder))
    assert (result.code, result.calls[0].outcome, result.written) == (0, Outcome.HEALTHY, None)
    assert names(folder) == ["d.csv", "d.npz", "m.keras"]


def test_outputs_are_checked_before_anything_is_loaded(folder):
    absent = SavedModel(folder / "absent.keras", folder / "d.npz")
    with pytest.raises(InputError, match=r"Expected: a path that ends in \.keras"):
        repair_saved(absent, out=folder / "fix.json", model_out=folder / "repaired.h5")
    with pytest.raises(NanfixError, match=r"Cannot write to .*absent/fix\.json"):
        repair_saved(
            absent, out=folder / "absent" / "fix.json", model_out=folder / "repaired.keras"
        )
    with pytest.raises(NanfixError, match=r"Cannot write to .*m\.keras/run/fix\.json"):
        repair_saved(absent, **outputs(folder), run_dir=folder / "m.keras" / "run")
    with pytest.raises(InputError, match="No strategy is left"):
        repair_saved(
            absent, **outputs(folder), strategies=["scale-inputs"], forbid=["scale-inputs"]
        )
    assert names(folder) == ["d.csv", "d.npz", "m.keras"]


def test_a_fix_that_does_not_hold_on_a_fresh_copy_is_not_written(folder, monkeypatch):
    from nanfix.cli import _saved_models as module

    def fit(model, *args, fix=None, **kwargs):
        if fix is None:
            return original(model, *args, **kwargs)
        # The proof without the edits fails.
        return original(model, *args, fix=type(fix)(), **kwargs)

    original = module.fit
    monkeypatch.setattr(module, "fit", fit)
    result = repair_saved(subject(folder), **outputs(folder), strategies=["scale-inputs"])
    assert (result.code, result.calls[0].proof, result.written) == (4, "fails", None)
    assert names(folder) == ["d.csv", "d.npz", "m.keras"]
