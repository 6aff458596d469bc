"""The contract of nanfix.fit on a legal training, made of checks that each look at one thing."""

import os
import subprocess
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import nanfix
from legal.training import Training
from nanfix import Outcome
from nanfix.records.diagnosis import Phase

TESTS = Path(__file__).parents[1]
# Keras makes them anew where they are missing.
FUNCTIONS = {"train_function", "test_function", "predict_function"}
OPEN = (Outcome.FINITE, Outcome.EXHAUSTED, Outcome.UNREPAIRABLE, Outcome.REPAIRED)


@dataclass(frozen=True)
class Run:
    """A training that has ended: what went in, what fit returned, and what the user's
    own code raised.
    """

    model: Any
    x: Any
    y: Any
    arguments: dict[str, Any]
    result: Any
    raised: Exception | None
    given: list[Any]  # the user's data, before
    warned: frozenset[str]  # how the warnings to the user begin


class _Steps(keras.callbacks.Callback):
    """Notes whether the loss of every step was finite: that of an epoch may be one that
    the user's step makes up.
    """

    def __init__(self):
        super().__init__()
        self.finite = True

    def on_train_batch_end(self, batch, logs=None):
        self.finite = self.finite and bool(np.isfinite((logs or {}).get("loss", 0.0)))


def by_keras(model, *data, **arguments):
    steps, callbacks = _Steps(), arguments.pop("callbacks", None)
    if isinstance(callbacks, keras.callbacks.CallbackList):
        callbacks.append(steps)
    else:
        callbacks = [*(callbacks or []), steps]
    try:
        return model.fit(*data, callbacks=callbacks, **arguments)
    finally:
        model.history.steps_finite = steps.finite


def run(training: Training, explosive: bool, fit=by_keras, model=None) -> Run:
    """Build and train, always seeded alike; or go on with `model` on what is built."""
    keras.utils.set_random_seed(0)
    built, x, y, arguments = training.build(explosive)
    keras.utils.set_random_seed(1)
    model, given = built if model is None else model, contents([x, y, arguments])
    held, result, raised = own_callables(model), None, None
    with warnings.catch_warnings(record=True) as caught:
        # Others stay the errors that they are in tests.
        warnings.simplefilter("always", UserWarning)
        try:
            result = training.run(fit, model, x, y, arguments)
        except Exception as error:
            if training.raises is None or not isinstance(error, training.raises):
                raise
            raised = error
    assert_same_callables(model, held)
    return Run(
        model,
        x,
        y,
        arguments,
        result,
        raised,
        given,
        frozenset(str(warning.message)[:40] for warning in caught),
    )


def check_healthy(training: Training) -> None:
    """nanfix.fit leaves everything as model.fit does: weights, slots, statistics,
    history, the user's objects.
    """
    plain = run(training, False)
    watched = run(training, False, nanfix.fit)
    assert (plain.raised is None) == (watched.raised is None)
    if plain.raised is None:
        report = watched.result
        assert report.outcome is Outcome.HEALTHY and report.diagnosis is None and not report.fix, (
            str(report)
        )
        assert (report.history, report.epoch) == (plain.result.history, plain.result.epoch)
    assert_same_state(plain.model, watched.model)
    assert attributes(watched.model) == attributes(plain.model), (
        "the model has other attributes than Keras leaves"
    )
    assert_same_callbacks(plain.arguments, watched.arguments)
    assert watched.warned <= plain.warned, (
        f"warnings that Keras does not give: {watched.warned - plain.warned}"
    )
    assert_untouched(watched)


def check_broken(training: Training, folder: Path, **search: Any) -> Run:
    """Whatever nanfix.fit comes to: no exception of its own, a finite model that predicts; where it
    is repaired, a whole one.
    """
    broken = run(training, True, partial(nanfix.fit, throw=False, **search))
    assert_finite(broken.model)
    assert_untouched(broken)
    if broken.raised is not None:
        return broken
    report = broken.result
    assert report.outcome in OPEN, f"the explosive training came to {report.outcome.name}"
    assert report.diagnosis is not None and str(report), "there is no diagnosis"
    predicted = predictions(training, broken.model) if training.predicts else None
    if report.outcome.has_fix:
        check_whole(training, broken.model, predicted, folder)
    return broken


def check_whole(training: Training, model: Any, before: Any, folder: Path) -> None:
    """A repaired model evaluates, loads as it was saved, predicting the same, and trains on."""
    if training.evaluates:
        _, x, y, arguments = training.build(False)
        with _keras_may_warn():
            losses = model.evaluate(x, y, verbose=0, steps=arguments.get("steps_per_epoch"))
        assert np.isfinite(losses).all(), f"evaluate gives {losses}"
    if training.saves and training.predicts:
        model.save(folder / "model.keras")
        with _keras_may_warn():
            loaded = predictions(training, keras.models.load_model(folder / "model.keras"))
        assert_close(before, loaded)
    again = run(training, False, model=model)
    assert_finite(again.model)


def check_loaded_elsewhere(training: Training, model: Any, folder: Path) -> None:
    """A repaired model predicts in a fresh process, which has no nanfix, what it predicts here."""
    model.save(folder / "model.keras")
    np.savez(folder / "before.npz", *flat(predictions(training, model)))
    command = [sys.executable, "-m", "legal.elsewhere", training.name, str(folder)]
    environment = {**os.environ, "PYTHONPATH": str(TESTS), "TF_CPP_MIN_LOG_LEVEL": "3"}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr


def check_repaired_again(training: Training, model: Any, **search: Any) -> None:
    """A repaired model that is compiled to explode again is repaired again, or comes to
    an honest end.
    """
    fresh = training.build(True)[0]
    if training.compiles_anew and type(model).compile is keras.Model.compile and fresh.compiled:
        optimizer = type(fresh.optimizer).from_config(fresh.optimizer.get_config())
        model.compile(optimizer, fresh.loss, run_eagerly=fresh.run_eagerly)
    run(training, True, partial(nanfix.fit, throw=False, **search), model=model)
    assert_finite(model)


def predictions(training: Training, model: Any) -> Any:
    """Return what the model predicts for the healthy data, all of it finite."""
    keras.utils.set_random_seed(0)  # a stream may shuffle
    _, x, _, arguments = training.build(False)
    steps, rows = arguments.get("steps_per_epoch"), arguments.get("batch_size")
    with _keras_may_warn():
        predicted = model.predict(x, verbose=0, steps=steps, batch_size=rows)
    assert all(np.isfinite(leaf).all() for leaf in flat(predicted)), (
        "the model predicts non-finite values"
    )
    return predicted


@contextmanager
def _keras_may_warn() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        yield


def flat(tree: Any) -> list[Any]:
    return [np.asarray(leaf, dtype="float64") for leaf in keras.tree.flatten(tree)]


def optimizers(model: Any) -> list[Any]:
    return [value for value in vars(model).values() if isinstance(value, keras.Optimizer)]


def state(model: Any) -> list[Any]:
    """Return all that a training changes, metrics apart: weights, statistics, seeds, slots, and the
    user's own variables.
    """
    metrics = {id(variable) for variable in model.metrics_variables}
    own = [variable for variable in model.variables if id(variable) not in metrics]
    plain = [
        leaf
        for value in vars(model).values()
        for leaf in _leaves(value)
        if isinstance(leaf, tf.Variable)
    ]
    slots = [variable for optimizer in optimizers(model) for variable in optimizer.variables]
    return [np.array(variable) for variable in (*own, *plain, *slots)]


def _leaves(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def assert_same_state(plain: Any, watched: Any) -> None:
    for one, other in zip(state(plain), state(watched), strict=True):
        assert one.tobytes() == other.tobytes(), "the state is not that of Keras' own fit"


def assert_finite(model: Any) -> None:
    assert all(np.isfinite(value).all() for value in floats(model)), (
        "the model's state is non-finite"
    )


def floats(model: Any) -> list[Any]:
    """Return the floating-point part of the state, in double precision."""
    kinds = [(value, value.dtype.name) for value in state(model)]
    return [value.astype("float64") for value, kind in kinds if "float" in kind]


def assert_close(before: Any, after: Any) -> None:
    for one, other in zip(flat(before), flat(after), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def attributes(model: Any) -> dict[str, list[str]]:
    """Return the names of what the model, its layers and its optimizers hold."""
    owners = {
        "model": model,
        **{f"optimizer {number}": it for number, it in enumerate(optimizers(model))},
    }
    owners |= {f"layer {number}": layer for number, layer in enumerate(model.layers)}
    return {owner: sorted(vars(it)) for owner, it in owners.items()}


def own_callables(model: Any) -> dict[tuple[str, str], Any]:
    """Return the functions that were set on the model, its layers and its optimizers themselves."""
    owners = {
        "model": model,
        **{str(number): it for number, it in enumerate((*model.layers, *optimizers(model)))},
    }
    return {
        (owner, name): value
        for owner, it in owners.items()
        for name, value in vars(it).items()
        if name in ("call", "train_step", "apply", "apply_gradients", "compute_loss", "loss")
    }


def assert_same_callables(model: Any, held: Mapping[tuple[str, str], Any]) -> None:
    for key, value in own_callables(model).items():
        if key[1] != "loss":  # a repair may change it
            assert held.get(key) is value, (
                f"{key[1]} of {key[0]} is another object than the user set"
            )
    gone = {key for key in held if key[1] != "loss"} - set(own_callables(model))
    assert not gone, f"what the user set is gone: {gone}"


def contents(tree: Any) -> list[Any]:
    """Return what the user's data hold, for comparison: arrays and frames by their
    bytes, nothing else.
    """
    if isinstance(tree, Mapping):
        return [(key, contents(value)) for key, value in tree.items()]
    if isinstance(tree, list | tuple):
        return [contents(value) for value in tree]
    if hasattr(tree, "to_numpy"):
        return [str(type(tree)), tree.to_csv()]
    if isinstance(tree, np.ndarray):
        return [tree.dtype.str, tree.shape, tree.tobytes()]
    return [type(tree).__name__]


def assert_untouched(done: Run) -> None:
    assert contents([done.x, done.y, done.arguments]) == done.given, (
        "the user's data or arguments have changed"
    )


def assert_same_callbacks(plain: Mapping[str, Any], watched: Mapping[str, Any]) -> None:
    for one, other in zip(plain.get("callbacks", []), watched.get("callbacks", []), strict=True):
        assert sorted(vars(one)) == sorted(vars(other))
        for name, value in vars(one).items():
            if isinstance(value, int | float | str | bool | list | dict) and not name.startswith(
                "_"
            ):
                np.testing.assert_equal(
                    vars(other)[name], value, err_msg=f"{type(one).__name__}.{name}"
                )


def check_composed(training: Training, plain: Run, **search: Any) -> None:
    """Compare with what Keras made of the same training: the very same where that stayed finite,
    else a finite model.
    """
    watched = run(training, True, partial(nanfix.fit, throw=False, **search))
    assert_untouched(watched)
    assert (plain.raised is None) == (watched.raised is None) or not stayed_finite(plain)
    if not stayed_finite(plain):
        assert_finite(watched.model)
        assert watched.raised is not None or watched.result.outcome in OPEN, watched.result.outcome
        return
    assert_same_state(plain.model, watched.model)
    assert attributes(watched.model) == attributes(plain.model), (
        "the model has other attributes than Keras leaves"
    )
    if plain.raised is None:
        # A finite training may leave a model that predicts NaN, and then it is not called healthy.
        found = watched.result.diagnosis
        unusable = found is not None and found.place.phase is Phase.INFERENCE
        finite = (Outcome.HEALTHY, Outcome.DIVERGED)
        assert unusable or watched.result.outcome in finite, str(watched.result)
        np.testing.assert_equal(watched.result.history, plain.result.history)


def stayed_finite(done: Run) -> bool:
    """Say whether a training of Keras' own came out finite, and every step of it."""
    history = done.model.history.history
    if not done.model.history.steps_finite:
        return False
    # A metric may be inf while the loss is not, as the mean of squares beside a Huber loss.
    kept = ["loss"] if "loss" in history else [n for n in history if not n.startswith("val_")]
    losses = [value for name in kept for value in history[name]]
    return all(np.isfinite(value).all() for value in (losses, *floats(done.model)))
