"""What people do instead of nanfix, each given the same seconds: every attempt is a whole training
of a freshly built model.

An attempt that runs when the seconds are spent is finished. Each returns the model and the history
to keep, and the attempts.
"""

import math
import tempfile
import time

import numpy as np

FOLK_RESTARTS = 5
# The order that AutoTrainer publishes for exploding gradients.
ADVANCED = ("selu", "relu", "clip", "tanh", "batch normalization")


def folk_remedy(case, seconds):
    """Start again with a tenth of the learning rate, at most five times."""

    def attempt(index):
        def changed(model):
            model.optimizer.learning_rate = float(
                np.asarray(model.optimizer.learning_rate)
            ) * 0.1 ** (index + 1)
            return model

        return changed

    return _first_finite(case, map(attempt, range(FOLK_RESTARTS)), seconds)


def autotrainer_order(case, seconds):
    """Try one change after the other, in the published order, until a training stays finite."""
    return _first_finite(case, (_ADVANCES[name] for name in ADVANCED), seconds)


def random_search(case, seconds, space):
    """Let keras-tuner draw whole trainings from the space that nanfix searches; keep that of the
    lowest validation loss.
    """
    import keras_tuner

    import nanfix

    begun, kept, attempts = time.perf_counter(), (math.inf, None, {}), 0

    class Tuner(keras_tuner.engine.base_tuner.BaseTuner):
        def pre_create_trial(self):
            if attempts and time.perf_counter() - begun > seconds:
                self.oracle.max_trials = attempts

        def run_trial(self, trial, *args, **kwargs):
            nonlocal kept, attempts
            attempts += 1
            model, x, y, arguments = case.build()
            fix = space.fix(trial.hyperparameters)
            report = nanfix.fit(model, x, y, fix=fix, throw=False, **{**arguments, "verbose": 0})
            loss = (report.history.get("val_loss") or report.history.get("loss") or [math.nan])[-1]
            if finite(model) and math.isfinite(loss) and loss < kept[0]:
                kept = loss, model, report.history
            return loss if math.isfinite(loss) else 1e30

    oracle = keras_tuner.oracles.RandomSearchOracle(
        objective=keras_tuner.Objective("default_objective", "min"),
        max_trials=1000,
        hyperparameters=space.hyperparameters,
        allow_new_entries=False,
        tune_new_entries=False,
        seed=1,
        max_consecutive_failed_trials=1000,
    )
    with tempfile.TemporaryDirectory() as folder:
        Tuner(oracle, directory=folder).search(verbose=0)
    return kept[1], kept[2], attempts


def finite(model):
    """Say whether every weight is finite."""
    return model is not None and all(
        np.isfinite(weight).all() for weight in model.get_weights() if weight.dtype.kind == "f"
    )


def _first_finite(case, changes, seconds):
    begun, attempts = time.perf_counter(), 0
    for change in changes:
        if attempts and time.perf_counter() - begun > seconds:
            break
        attempts += 1
        model, x, y, arguments = case.build()
        model = change(model)
        history = model.fit(x, y, **{**arguments, "verbose": 0}).history
        if finite(model):
            return model, history, attempts
    return None, {}, attempts


def _activation(name):
    def changed(model):
        import keras

        from nanfix.private.objects import all_layers

        hidden = [layer for layer in all_layers(model) if callable(vars(layer).get("activation"))][
            :-1
        ]
        for layer in hidden:
            layer.activation = keras.activations.get(name)
        return model

    return changed


def _clipped(model):
    model.optimizer.clipnorm = 1.0
    return model


def _batch_normalized(model):
    """Put a BatchNormalization behind every hidden layer of weights of a Sequential model; others
    are left as they are.
    """
    import keras

    if not isinstance(model, keras.Sequential):
        return model
    layers = []
    for layer in model.layers[:-1]:
        layers += [layer, keras.layers.BatchNormalization()] if layer.trainable_weights else [layer]
    changed = keras.Sequential([keras.Input(model.input_shape[1:]), *layers, model.layers[-1]])
    compiled = model.get_compile_config()
    changed.compile_from_config(compiled)
    return changed


_ADVANCES = {
    "selu": _activation("selu"),
    "relu": _activation("relu"),
    "clip": _clipped,
    "tanh": _activation("tanh"),
    "batch normalization": _batch_normalized,
}
