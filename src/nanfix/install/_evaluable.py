"""Whether Keras can evaluate a model outside of its training step."""

import keras

from nanfix.data.training_data import TrainingData
from nanfix.install.sites import OTHERWISE, Sites, callable_alone
from nanfix.private.objects import has_compiled_loss


def can_evaluate(model: keras.Model, sites: Sites) -> bool:
    """Say whether `model.evaluate` can work on the batches that the model is trained on."""
    if type(model).test_step is not keras.Model.test_step:
        return True
    return callable_alone(model) and _has_loss(model) and sites.unseen != OTHERWISE


def lacks_targets(model: keras.Model, validation: TrainingData) -> bool:
    """Say whether Keras' own evaluation needs targets that these data have not: only a training
    step of the user's can do without.
    """
    stock = (
        type(model).test_step is keras.Model.test_step
        and type(model).compute_loss is keras.Model.compute_loss
    )
    return stock and has_compiled_loss(model) and validation.is_arrays and validation.y is None


def _has_loss(model: keras.Model) -> bool:
    """Say whether Keras' own evaluation has a loss to compute: not where only a training step of
    the user's knows of one.
    """
    return (
        has_compiled_loss(model)
        or bool(model.losses)
        or type(model).compute_loss is not keras.Model.compute_loss
    )
