"""Whether Keras can evaluate a model outside of its training step."""

import keras

from nanfix.data.training_data import TrainingData
from nanfix.install.sites import OTHERWISE, Sites, callable_alone
from nanfix.private.objects import has_compiled_loss


def lacks(model: keras.Model, sites: Sites, validation: TrainingData) -> str | None:
    """Return in words what `model.evaluate` lacks to work on the batches that the model is trained
    on; None where it lacks nothing.
    """
    if type(model).test_step is not keras.Model.test_step:
        return None
    missing = (
        (not callable_alone(model), "its class has no call of its own"),
        (not _has_loss(model), "only its training step knows of a loss"),
        (sites.unseen == OTHERWISE, "its call takes other data than its training step"),
        (_lacks_targets(model, validation), "its loss takes targets, which the data have not"),
    )
    return next((words for is_so, words in missing if is_so), None)


def _lacks_targets(model: keras.Model, validation: TrainingData) -> bool:
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
