"""The tanh network of `article_tanh.py` with clipnorm=1.0, often shown as the cure of its NaN.

Symptom: none; the loss falls and stays finite, as it does without clipping.
Cause:   there was nothing to cure.
Remedy:  none needed. `article_clipnorm_nan.py` fails for real, with the clipping in place.
"""

import keras
from _show import plain
from article_tanh import build as build_tanh


def build():
    model, x, y, fit_kwargs = build_tanh()
    model.compile(keras.optimizers.Adam(0.001, clipnorm=1.0), "mean_squared_error")
    return model, x, y, fit_kwargs


if __name__ == "__main__":
    plain(build)
