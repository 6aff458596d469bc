"""Private attributes of Keras' models, layers, optimizers, losses and callbacks. Loads nothing.

A constant is the name of an attribute that is set, or of a method that is overridden,
on a single object.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

# Compiled functions. No underscore, yet not documented: `compile` is the public way to reset them,
# and resets all else too.
TRAINS = "train_function"
COMPILED = (TRAINS, "test_function", "predict_function")

# BackupAndRestore sets it for good. `fit` has an argument for it, but none to take this one back.
INITIAL_EPOCH = "_initial_epoch"

# The loss that `compute_loss` calls. `compile` would set it too, but makes new metrics and forgets
# the compiled functions.
COMPILE_LOSS = "_compile_loss"

# What an optimizer does between the gradients and the update. A subclass could override them; the
# user's object has its class.
CLIP_GRADIENTS = "_clip_gradients"
ALL_REDUCE = "_all_reduce_sum_gradients"

# The learning rate as it was given. `learning_rate` can be set to a number alone where the
# optimizer was made with one.
LEARNING_RATE = "_learning_rate"

# The precision of a layer. The setter of `dtype_policy` writes into a policy map that
# other layers share.
DTYPE_POLICY = "_dtype_policy"

# What callbacks hold that is no memory of theirs: the model, and the open files of TensorBoard.
OF_CALLBACKS = frozenset({"_model", "_writers", "_prev_summary_state"})

# What Keras notes about the first call of a model, for its export. It is no part of
# what nanfix puts back.
INPUTS_SPEC = "_saved_model_inputs_spec"

# What a layer keeps about the tracking of its own attributes begins so. No list of
# these names is public.
TRACKING = "_self_"


def all_layers(layer: "keras.Layer") -> "list[keras.Layer]":
    """Return a layer or model, itself first, and every layer in it.

    `model.layers` lists the outermost ones, and a layer has no such list.
    """
    return layer._flatten_layers(include_self=True, recursive=True)


def own_statistics(layer: "keras.Layer") -> "list[keras.Variable]":
    """Return the very list of the variables that a layer holds itself and that no training changes
    by a gradient; public ones hold those of the layers in it, too.
    """
    return layer._non_trainable_variables


def direct_layers(layer: "keras.Layer") -> "list[keras.Layer]":
    """Return the very list of what a layer or model tracks as its direct layers, of a Sequential
    model the input layer too.

    `model.layers` leaves that one out, and a layer has no such list.
    """
    return layer._layers


def is_layer(node: object) -> bool:
    """Say whether a node of a model is a layer and no bare operation, without loading
    Keras for `isinstance`.
    """
    return hasattr(node, "_flatten_layers")


def added_losses(layer: "keras.Layer") -> list[Any]:
    """Return the very list in which a layer keeps what `add_loss` was given; `layer.losses` is a
    copy with those of others.
    """
    return layer._losses


def own_kernel(layer: "keras.Layer") -> "keras.Variable | None":
    """Return the kernel that a layer holds, or None.

    `layer.kernel` computes one for a layer with LoRA, and raises an error for one that
    is not built.
    """
    return vars(layer).get("kernel", vars(layer).get("_kernel"))


def graph_of(model: "keras.Layer") -> Any:
    """Return the Functional model that a model is, or that a built Sequential one
    computes by; None for any other.

    The class is not public, and a Sequential model does not show that it has one.
    """
    graph = getattr(model, "_functional", None) or model
    return graph if hasattr(graph, "_inputs_struct") else None


def inputs_struct(graph: Any) -> Any:
    """Return the inputs of a graph in the structure that it was built from, by which it
    takes data; `inputs` is flat.
    """
    return graph._inputs_struct


def outputs_struct(model: "keras.Model") -> Any:
    """Return the outputs of a Functional model in the structure it was built from, None
    for others; `outputs` is flat.
    """
    return getattr(model, "_outputs_struct", None)


def compile_config(model: "keras.Model") -> Any:
    """Return what holds as `config` the arguments of `compile` that a saved model is compiled with;
    None if there are none.

    `get_compile_config` gives a serialized copy, and nothing but `compile` changes it.
    """
    return getattr(model, "_compile_config", None)


def has_compiled_loss(model: "keras.Model") -> bool:
    """Say whether `compile` was given a loss; `model.loss` may be another thing in a
    class of the user's own.
    """
    return getattr(model, COMPILE_LOSS, None) is not None


def given_loss(model: "keras.Model") -> Any:
    """Return the loss as `compile` was given it, None without; `model.loss` may be another thing in
    a class of the user's.
    """
    return getattr(getattr(model, COMPILE_LOSS, None), "_user_loss", None)


def given_loss_weights(model: "keras.Model") -> Any:
    """Return the loss weights as `compile` was given them, None without. Only their
    serialized form is public.
    """
    return getattr(getattr(model, COMPILE_LOSS, None), "_user_loss_weights", None)


def given_metrics(model: "keras.Model") -> Any:
    """Return the metrics as `compile` was given them, None without. Only their
    serialized form is public.
    """
    return getattr(getattr(model, "_compile_metrics", None), "_user_metrics", None)


def function_of(metric: Any) -> Any:
    """Return the function that a metric takes the mean of, the metric itself where it is none of
    those. Its configuration alone is public, as text.
    """
    return getattr(metric, "_fn", metric)


def loss_tracker(model: "keras.Model") -> Any:
    """Return the running mean of the loss, None without; `metrics` need not list it where the
    user's class overrides it.
    """
    return model._loss_tracker


def learning_rate_of(optimizer: "keras.optimizers.Optimizer") -> Any:
    """Return the learning rate as an optimizer holds it: a variable, a schedule, a
    function; None without.

    `learning_rate` is its value at the moment, so a schedule looks like a number.
    """
    return getattr(optimizer, LEARNING_RATE, None)


def updated_variables(optimizer: "keras.optimizers.Optimizer") -> "list[keras.Variable]":
    """Return the variables that a built optimizer updates. `variables` are its own:
    iterations, rate, moments.
    """
    return list(optimizer._trainable_variables)


def moments(optimizer: "keras.optimizers.Optimizer") -> Iterator[tuple[list[Any], float]]:
    """Yield each list in which an optimizer remembers something per variable that it
    updates, and what it starts at.

    `variables` has them all in one row, without a word of which belongs to which.
    """
    count = len(optimizer._trainable_variables)
    for name, value in vars(optimizer).items():
        if name != "_trainable_variables" and isinstance(value, list) and len(value) == count:
            yield (
                value,
                getattr(optimizer, "initial_accumulator_value", 0.0)
                if name == "_accumulators"
                else 0.0,
            )


def accumulators(optimizer: "keras.optimizers.Optimizer") -> "list[keras.Variable]":
    """Return what a built optimizer has summed up of squared gradients since it began."""
    return list(optimizer._accumulators)


def hand_on_logits(given: "tf.Tensor", made: Any) -> None:
    """Let a tensor `made` of outputs carry the logits that they came from, of which
    Keras computes crossentropies.
    """
    if hasattr(given, "_keras_logits"):
        made._keras_logits = given._keras_logits
