"""nanfix.fit as a user meets it: healthy runs untouched, sick ones repaired, bad input
refused, endings honest.
"""

import csv

import explosions
import keras
import numpy as np
import pytest
import tensorflow as tf

import nanfix
from nanfix import Outcome
from nanfix.records.cause import Cause
from nanfix.records.errors import InputError, RunDirError, UnknownStrategyError, UnrepairedError


def state(model):
    return [np.asarray(v).copy() for v in model.variables + model.optimizer.variables]


def assert_finite(model, x):
    assert all(np.isfinite(weight).all() for weight in model.get_weights())
    assert np.isfinite(model.predict(x, verbose=0)).all()


def test_healthy_run_equals_model_fit_bit_for_bit():
    model, x, y, arguments = explosions.healthy()
    history = model.fit(x, y, **arguments)
    watched, x, y, arguments = explosions.healthy()
    report = nanfix.fit(watched, x, y, **arguments)
    assert report.outcome is Outcome.HEALTHY and not report.fix and report.diagnosis is None
    assert report.history == history.history and report.epoch == history.epoch
    for left, right in zip(state(model), state(watched), strict=True):
        np.testing.assert_array_equal(left, right)


def test_healthy_run_leaves_the_random_state_where_model_fit_does():
    after = []
    for fit in (lambda m, *a, **k: m.fit(*a, **k), nanfix.fit):
        model, x, y, arguments = explosions.healthy()
        fit(model, x, y, **arguments)
        after.append((float(tf.random.uniform(())), float(np.random.rand())))
    assert after[0] == after[1]


@pytest.mark.parametrize("build", explosions.REPAIRABLE, ids=lambda build: build.__name__)
def test_repaired_run_is_finite_and_has_learned(build):
    model, x, y, arguments = build()
    report = nanfix.fit(model, x, y, **arguments)
    assert report.outcome is Outcome.REPAIRED and report.fix and report.model is model
    assert_finite(model, x)
    held = y[int(len(y) * 0.8) :]
    nothing = -np.log(1 / 3) if build is explosions.handwritten_log else float(np.var(held))
    assert report.history["val_loss"][-1] < nothing
    assert len(report.history["loss"]) == arguments["epochs"]
    assert all(np.isfinite(report.history["loss"]))


def test_moments_that_an_earlier_training_has_ruined_are_forgotten():
    model, x, y, arguments = explosions.learning_rate()
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9), "mse")
    model.optimizer.build(model.trainable_variables)
    model.optimizer.momentums[0].assign(np.full(model.optimizer.momentums[0].shape, np.nan))
    report = nanfix.fit(model, x, y, **arguments)
    assert report.outcome is Outcome.REPAIRED and report.diagnosis.cause is Cause.STALE_MOMENTS
    assert [edit.strategy for edit in report.fix.edits] == ["reset-moments"]


def test_a_second_cause_that_the_first_has_hidden_is_found_and_treated():
    model, x, y, arguments = explosions.root_and_then_logarithm()
    report = nanfix.fit(model, x, y, forbid=["constrain-outputs"], **arguments)
    assert report.outcome is Outcome.REPAIRED
    assert [edit.params["operation"] for edit in report.fix.edits] == ["Sqrt", "Log"]
    assert report.notes[0].startswith(
        "Once this cause was treated, another one appeared: the loss computes an operation outside"
    )
    assert (
        np.isfinite(report.history["val_loss"]).all()
        and report.history["val_loss"][-1] < report.history["val_loss"][0]
    )
    with pytest.raises(UnrepairedError):
        model, x, y, arguments = explosions.root_and_then_logarithm()
        nanfix.fit(model, x, y, budget=nanfix.Budget(trials=2), **arguments)


def test_a_second_cause_gets_the_remedy_with_which_the_run_learns_best():
    model, x, y, arguments = explosions.root_and_then_logarithm()
    report = nanfix.fit(model, x, y, **arguments)
    assert [edit.strategy for edit in report.fix.edits] == [
        "guard-unsafe-operations",
        "constrain-outputs",
    ]
    assert (model.predict(x, verbose=0) > 0).all()


@pytest.mark.parametrize("build", explosions.HOPELESS, ids=lambda build: build.__name__)
def test_hopeless_run_says_why_and_leaves_the_model_finite(build):
    model, x, y, arguments = build()
    report = nanfix.fit(model, x, y, throw=False, **arguments)
    assert report.outcome is Outcome.UNREPAIRABLE
    assert "every" in report.diagnosis.hopeless
    assert all(np.isfinite(weight).all() for weight in model.get_weights())


@pytest.mark.parametrize("build", explosions.UNTREATED, ids=lambda build: build.__name__)
def test_exhausted_search_raises_with_the_report_and_leaves_the_model_finite(build):
    model, x, y, arguments = build()
    with pytest.raises(nanfix.UnrepairedError) as raised:
        nanfix.fit(
            model,
            x,
            y,
            budget=nanfix.Budget(trials=2),
            strategies=["lower-learning-rate"],
            **arguments,
        )
    assert raised.value.report.outcome is Outcome.EXHAUSTED
    assert raised.value.report.diagnosis is not None
    assert all(np.isfinite(weight).all() for weight in model.get_weights())


def test_nonfinite_validation_data_are_explained_and_training_left_alone():
    model, x, y, arguments = explosions.validation_hole()
    report = nanfix.fit(model, x, y, strategies=["lower-learning-rate"], **arguments)
    assert report.outcome is Outcome.HEALTHY and not report.fix
    assert report.diagnosis.cause is nanfix.Cause.VALIDATION_ONLY and report.diagnosis.rows == (3,)


def test_nonfinite_validation_data_are_repaired_without_touching_the_training():
    plain, x, y, arguments = explosions.validation_hole()
    history = plain.fit(x, y, **arguments).history
    model, x, y, arguments = explosions.validation_hole()
    report = nanfix.fit(model, x, y, **arguments)
    assert (
        report.outcome is Outcome.REPAIRED
        and report.diagnosis.cause is nanfix.Cause.VALIDATION_ONLY
    )
    assert [edit.strategy for edit in report.fix.edits] == [
        "impute-nonfinite"
    ] and report.trials == ()
    for name, values in history.items():
        np.testing.assert_equal(report.history[name][:-1], values[:-1])
    assert report.history["loss"] == history["loss"]
    now = model.evaluate(*arguments["validation_data"], verbose=0, return_dict=True)
    assert np.isfinite(now["loss"]) and report.history["val_loss"][-1] == pytest.approx(
        now["loss"], rel=1e-4
    )
    for left, right in zip(state(plain), state(model), strict=True):
        np.testing.assert_array_equal(left, right)
    assert_finite(model, arguments["validation_data"][0])


def test_holes_and_targets_out_of_scale_are_repaired_together():
    model, x, y, arguments = explosions.missing_cells_and_large_targets()
    report = nanfix.fit(model, x, y, **arguments)
    strategies = [edit.strategy for edit in report.fix.edits]
    assert (
        report.diagnosis.cause is nanfix.Cause.UNSCALED_TARGET
        and nanfix.Cause.NONFINITE_INPUT in report.diagnosis.causes
    )
    assert (
        report.outcome is Outcome.REPAIRED
        and strategies[0] == "impute-nonfinite"
        and len(strategies) > 1
    )
    assert all(
        "impute-nonfinite" in {edit.strategy for edit in trial.edits} for trial in report.trials
    )
    assert_finite(model, x)
    assert report.history["val_loss"][-1] < np.var(y[128:])


def test_holes_that_the_model_handles_are_left_alone():
    _, x, y, arguments = explosions.missing_cells_and_large_targets()
    inputs = keras.Input((4,))
    known = keras.ops.where(keras.ops.isnan(inputs), 0.0, inputs)
    hidden = keras.layers.Dense(8, activation="relu")(
        keras.layers.Dense(8, activation="relu")(known)
    )
    model = keras.Model(inputs, keras.layers.Dense(1)(hidden))
    model.compile(keras.optimizers.SGD(5.0), "mse")
    report = nanfix.fit(model, x, y, **arguments)
    assert (
        report.outcome is Outcome.REPAIRED
        and nanfix.Cause.NONFINITE_INPUT not in report.diagnosis.causes
    )
    assert "impute-nonfinite" not in {
        edit.strategy for trial in report.trials for edit in trial.edits
    }


def test_holes_in_inputs_and_in_targets_are_repaired_together():
    model, x, y, arguments = explosions.holes_in_both()
    report = nanfix.fit(model, x, y, **arguments)
    assert {edit.strategy for edit in report.fix.edits} == {
        "impute-nonfinite",
        "drop-nonfinite-rows",
    }
    assert_finite(model, x)


def test_repair_keeps_the_users_callbacks_and_reports_each_epoch_once():
    seen = []
    model, x, y, arguments = explosions.unscaled_targets()
    spy = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(epoch))
    nanfix.fit(model, x, y, callbacks=[spy, keras.callbacks.EarlyStopping(patience=5)], **arguments)
    assert seen == [0, 1, 2]


def test_clipping_and_rate_stay_with_the_users_optimizer():
    model, x, y, arguments = explosions.learning_rate()
    report = nanfix.fit(model, x, y, strategies=["lower-learning-rate"], **arguments)
    rate = report.fix.edits[0].params["learning_rate"]
    assert float(model.optimizer.learning_rate) == pytest.approx(rate)
    assert rate < 30.0


def test_known_fix_is_applied_without_a_search():
    model, x, y, arguments = explosions.unscaled_inputs()
    found = nanfix.fit(model, x, y, **arguments)
    fresh, x, y, arguments = explosions.unscaled_inputs()
    report = nanfix.apply(fresh, found.fix, x, y, **arguments)
    assert report.outcome is Outcome.REPAIRED and report.trials == ()
    np.testing.assert_allclose(
        fresh.predict(x, verbose=0), model.predict(x, verbose=0), rtol=1e-3, atol=1e-4
    )


def test_forbidden_strategies_are_not_tried():
    model, x, y, arguments = explosions.learning_rate()
    allowed = {
        "strategies": ["lower-learning-rate", "clip-gradients"],
        "forbid": ["clip-gradients"],
    }
    report = nanfix.fit(model, x, y, **allowed, **arguments)
    assert {edit.strategy for trial in report.trials for edit in trial.edits} == {
        "lower-learning-rate"
    }


def test_report_says_what_was_trained_on_what():
    model, x, y, arguments = explosions.healthy()
    report = nanfix.fit(model, x, y, **arguments)
    shapes = [[list(weight.shape) for weight in layer.weights] for layer in model.layers]
    told = dict(report.fingerprint)
    assert (
        told.pop("compiled")["loss"] == "mse"
        and told.pop("fed")["batch_size"] == arguments["batch_size"]
    )
    assert told == {
        "model": {f"dense[{index}]": ["Dense", held] for index, held in enumerate(shapes)},
        "optimizer": "Adam",
        "data": [[[list(x.shape), "float32"]], [[list(y.shape), "float32"]]],
        "epochs": arguments["epochs"],
    }


def another(*layers):
    model = keras.Sequential([keras.Input((4,)), *layers])
    model.compile(keras.optimizers.SGD(5.0), "mse")
    return model


@pytest.mark.parametrize(
    ("edit", "model", "words"),
    [
        (
            nanfix.Edit("swap-activation", {"activation": "tanh", "layers": ["dense[0]"]}),
            another(keras.layers.Dense(3, "relu"), keras.layers.Dense(1)),
            (
                r"layer 'dense\[0\]' differs. Expected: Dense with weights \[\[4, 8\], \[8\]\]. "
                r"Received: .* \[\[4, 3\], \[3\]\]"
            ),
        ),
        (
            nanfix.Edit("swap-activation", {"activation": "tanh", "layers": ["dense[1]"]}),
            another(keras.layers.Dense(1)),
            (
                r"no layer 'dense\[1\]'. Expected: a fix that was made for this model, whose "
                r"layers are dense\[0\]"
            ),
        ),
        (
            nanfix.Edit("impute-nonfinite", {"fills": {"input[0]": [0.0, 0.0]}}),
            another(keras.layers.Dense(1)),
            r"another input 'input\[0\]'. Expected: 2 features. Received: 4",
        ),
    ],
    ids=["other layer", "no such layer", "other input"],
)
def test_a_fix_of_another_model_is_refused_before_anything_changes(edit, model, words):
    x, y = explosions.table()
    before = model.get_weights()
    with pytest.raises(InputError, match=words):
        nanfix.apply(
            model, nanfix.Fix((edit,), {"dense[0]": ["Dense", [[4, 8], [8]]]}), x, y, verbose=0
        )
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_run_dir_keeps_the_repaired_model_where_it_can_be_saved(tmp_path):
    model, x, y, arguments = explosions.learning_rate()
    quick = {"strategies": ["lower-learning-rate"], **arguments}
    report = nanfix.fit(model, x, y, run_dir=tmp_path / "run", **quick)
    kept = keras.saving.load_model(tmp_path / "run" / "model.keras")
    np.testing.assert_array_equal(kept.predict(x, verbose=0), model.predict(x, verbose=0))
    assert not any("model.keras" in note for note in report.notes)

    def save(path, **_):
        raise NotImplementedError("no get_config")

    model, x, y, _ = explosions.learning_rate()
    model.save = save
    report = nanfix.fit(model, x, y, run_dir=tmp_path / "other", **quick)
    assert report.outcome is Outcome.REPAIRED
    assert any(
        "model.keras was not written" in note and "no get_config" in note for note in report.notes
    )
    assert (tmp_path / "other" / "fix.json").exists() and not (
        tmp_path / "other" / "model.keras"
    ).exists()


def test_same_seed_gives_the_same_fix():
    fixes = []
    for _ in range(2):
        model, x, y, arguments = explosions.unscaled_targets()
        fixes.append(nanfix.fit(model, x, y, seed=7, **arguments).fix)
    assert fixes[0] == fixes[1]


def test_search_goes_on_in_its_run_dir(tmp_path):
    model, x, y, arguments = explosions.unscaled_targets()
    first = nanfix.fit(
        model,
        x,
        y,
        run_dir=tmp_path / "run",
        budget=nanfix.Budget(trials=2),
        throw=False,
        **arguments,
    )
    assert len(first.trials) == 2
    (tmp_path / "run" / "fix.json").unlink(missing_ok=True)
    model, x, y, arguments = explosions.unscaled_targets()
    second = nanfix.fit(model, x, y, run_dir=tmp_path / "run", **arguments)
    assert second.outcome is Outcome.REPAIRED
    # Read from the folder, not run again: their seconds are the same.
    assert second.trials[:2] == first.trials
    assert len({str(trial.edits) for trial in second.trials}) == len(second.trials)
    model, x, y, arguments = explosions.unscaled_targets()
    third = nanfix.fit(model, x, y, run_dir=tmp_path / "run", **arguments)
    assert third.fix == second.fix and third.trials == ()


def test_repaired_training_goes_on_where_it_was_stopped(tmp_path, monkeypatch):
    # So that every snapshot of so short a run is written.
    monkeypatch.setattr("nanfix.recorder._retention.WRITING", 1e9)
    # and there is one at each epoch.
    monkeypatch.setattr("nanfix.recorder._timing.ALWAYS_UNDER_SECONDS", 1e9)

    def called(logger, seen, stop=None):
        class Epochs(keras.callbacks.Callback):
            def on_epoch_begin(self, epoch, logs=None):
                if epoch == stop:
                    raise KeyboardInterrupt
                seen.append(epoch)

        model, x, y, arguments = explosions.unscaled_targets()
        told = {"run_dir": tmp_path / "run", "callbacks": [logger, Epochs()]}
        return nanfix.fit(model, x, y, **{**arguments, "epochs": 6, **told})

    logger = keras.callbacks.CSVLogger(str(tmp_path / "log.csv"))
    with pytest.raises(KeyboardInterrupt):
        called(logger, [], stop=4)
    logger.csv_file.close()
    report = called(keras.callbacks.CSVLogger(logger.filename), begun := [])
    assert report.outcome is Outcome.REPAIRED and any(
        "Went on at epoch" in note for note in report.notes
    )
    # Of the failing training it sees the beginning once more.
    assert begun[-1] == 5 and 2 not in begun
    assert report.epoch == list(range(6)) and all(np.isfinite(report.history["loss"]))
    with open(logger.filename) as file:
        assert [int(row["epoch"]) for row in csv.DictReader(file)] == report.epoch
    assert not list((tmp_path / "run").glob("**/*.safetensors"))


class Subclass(keras.Model):
    def __init__(self):
        super().__init__()
        self.hidden, self.out = keras.layers.Dense(8, activation="tanh"), keras.layers.Dense(1)

    def call(self, inputs, training=False):
        return self.out(self.hidden(inputs))


def functional_of_two():
    first, second = keras.Input((4,), name="first"), keras.Input((4,), name="second")
    hidden = keras.layers.Dense(8, activation="tanh")(keras.layers.Concatenate()([first, second]))
    return keras.Model({"first": first, "second": second}, keras.layers.Dense(1)(hidden))


def test_subclassed_model_takes_raw_inputs_after_its_repair():
    _, x, y, arguments = explosions.unscaled_targets()
    model = Subclass()
    model.compile(keras.optimizers.SGD(5.0), "mse")
    report = nanfix.fit(model, x, y, **arguments)
    assert report.outcome is Outcome.REPAIRED
    assert_finite(model, x)
    assert float(np.mean((model.predict(x, verbose=0) - y) ** 2)) < np.var(y)


def test_functional_model_with_named_inputs():
    _, x, y, arguments = explosions.unscaled_targets()
    model = functional_of_two()
    model.compile(keras.optimizers.SGD(5.0), "mse")
    named = {"first": x, "second": x * 2.0}
    report = nanfix.fit(model, named, y, **arguments)
    assert report.outcome is Outcome.REPAIRED
    assert_finite(model, named)


def stream(kind, x, y):
    if kind == "dataset":
        return tf.data.Dataset.from_tensor_slices((x, y)).batch(16), {}
    if kind == "pydataset":

        class Batches(keras.utils.PyDataset):
            def __len__(self):
                return len(x) // 16

            def __getitem__(self, index):
                return x[16 * index : 16 * index + 16], y[16 * index : 16 * index + 16]

        return Batches(), {}

    def generator():
        while True:
            for start in range(0, len(x), 16):
                yield x[start : start + 16], y[start : start + 16]

    return generator(), {"steps_per_epoch": len(x) // 16}


@pytest.mark.parametrize("kind", ["dataset", "pydataset", "generator"])
def test_streams_are_repaired_too(kind):
    model, x, y, _ = explosions.unscaled_targets()
    source, arguments = stream(kind, x, y)
    report = nanfix.fit(model, source, epochs=3, verbose=0, **arguments)
    assert report.outcome is Outcome.REPAIRED
    assert_finite(model, x)
    assert float(np.mean((model.predict(x, verbose=0) - y) ** 2)) < np.var(y)


def bad_inputs():
    x, y = explosions.table()
    return {
        "not compiled": (
            keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)]),
            x,
            y,
            {},
            InputError,
            "compile",
        ),
        "no model": (object(), x, y, {}, InputError, "keras.Model"),
        "lengths": (explosions.mlp(), x, y[:-1], {}, InputError, "different numbers of rows"),
        "empty": (explosions.mlp(), x[:0], y[:0], {}, InputError, "empty"),
        "object": (explosions.mlp(), x.astype(object), y, {}, InputError, "object dtype"),
        "strategy": (
            explosions.mlp(),
            x,
            y,
            {"strategies": ["no-such"]},
            UnknownStrategyError,
            "no-such",
        ),
        "forbidden": (
            explosions.mlp(),
            x,
            y,
            {"forbid": ["no-such"]},
            UnknownStrategyError,
            "no-such",
        ),
    }


@pytest.mark.parametrize(
    "kind", ["not compiled", "no model", "lengths", "empty", "object", "strategy", "forbidden"]
)
def test_bad_input_is_refused_before_anything_changes(kind, tmp_path):
    model, x, y, arguments, error, words = bad_inputs()[kind]
    before = model.get_weights() if isinstance(model, keras.Model) else []
    with pytest.raises(error, match=words) as raised:
        nanfix.fit(model, x, y, run_dir=tmp_path / "run", verbose=0, **arguments)
    assert isinstance(raised.value, nanfix.NanfixError)
    assert "Expected:" in str(raised.value) and "Received:" in str(raised.value)
    assert not (tmp_path / "run").exists()
    for old, new in zip(before, model.get_weights() if before else [], strict=True):
        np.testing.assert_array_equal(old, new)


def test_run_dir_of_another_run_is_refused(tmp_path):
    model, x, y, arguments = explosions.healthy()
    nanfix.fit(model, x, y, run_dir=tmp_path / "run", **arguments)
    other = explosions.mlp(outputs=2, loss="mae")
    with pytest.raises(RunDirError, match="another run"):
        nanfix.fit(other, x, np.concatenate([y, y], axis=1), run_dir=tmp_path / "run", **arguments)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("mine")
    with pytest.raises(RunDirError, match="not a run_dir"):
        nanfix.fit(model, x, y, run_dir=tmp_path / "full", **arguments)
