"""A mean over masked steps by a layer of Keras: in source, a layer in front keeps it finite."""

from typing import TYPE_CHECKING

import keras

from nanfix.records.source_changes import LayerChange

if TYPE_CHECKING:
    from nanfix.model.run import Run
    from nanfix.source.fit_call import FitCall

# What divide_no_nan makes of 0 / 0: the mean of a row that is masked wholly is 0.
MEAN_OF_NOTHING = '''@keras.utils.register_keras_serializable()
class MeanOfNothing(keras.layers.Layer):
    """Let the mean over the steps of a row that is masked wholly be 0, and not 0 / 0."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True

    def call(self, inputs, mask=None):
        if mask is None:
            return inputs
        known = keras.ops.any(mask, axis=1)[:, None, None]
        return keras.ops.where(known, inputs, keras.ops.zeros_like(inputs))

    def compute_mask(self, inputs, mask=None):
        if mask is None:
            return None
        masked = keras.ops.logical_not(keras.ops.any(mask, axis=1, keepdims=True))
        return keras.ops.logical_or(mask, masked)'''


def in_front_of_mean(run: "Run", address: str, call: "FitCall") -> LayerChange | None:
    """Return the change that puts such a layer in front of the one at an address; None where that
    takes no mean over masked steps, or where it is made is not known.
    """
    layer = run.members[address]
    if not isinstance(layer, keras.layers.GlobalAveragePooling1D):
        return None
    target = call.places.of(layer)
    return target and LayerChange(
        target=target,
        side="before",
        role="masked",
        layers=["MeanOfNothing()"],
        definitions=[MEAN_OF_NOTHING],
    )
