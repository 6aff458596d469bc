"""What every example's main does: train as it is, then train a fresh copy through nanfix.fit."""

import math

import keras
import numpy as np


class LossPerStep(keras.callbacks.Callback):
    """Remembers the first (epoch, step), counting from 1, at which Keras' running loss
    was not finite.
    """

    def __init__(self):
        super().__init__()
        self.epoch = 0
        self.onset = None

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch + 1

    def on_train_batch_end(self, batch, logs=None):
        if self.onset is None and not math.isfinite(logs["loss"]):
            self.onset = (self.epoch, batch + 1)


def plain(build):
    """Run build()'s training by model.fit alone and print how its loss ended."""
    keras.utils.set_random_seed(0)
    model, x, y, fit_kwargs = build()
    watch = LossPerStep()
    history = model.fit(x, y, callbacks=[watch], verbose=0, **fit_kwargs)
    weights = all(np.isfinite(weight).all() for weight in model.get_weights())
    loss = _final(history.history)
    if watch.onset:
        ending = "first non-finite at epoch {} step {}".format(*watch.onset)
    else:
        ending = "finite throughout" if weights else "but the weights are not finite"
    print(f"model.fit:  final {loss}, {ending}")
    return model


def _final(history):
    return ", ".join(
        f"{name} {history[name][-1]:.4g}" for name in ("loss", "val_loss") if name in history
    )


def show(build):
    """Show how build()'s training dies in model.fit and what nanfix.fit makes of it."""
    import nanfix

    plain(build)
    keras.utils.set_random_seed(0)
    model, x, y, fit_kwargs = build()
    report = nanfix.fit(model, x, y, throw=False, verbose=0, **fit_kwargs)
    print(f"nanfix.fit: final {_final(report.history)}")
    print(report)
