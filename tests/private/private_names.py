"""The private names that nanfix uses, each with an object or a module that has it."""

import functools
from collections.abc import Callable
from typing import Any


@functools.cache
def functional() -> Any:
    import keras

    inputs = keras.Input((2,))
    model = keras.Model(inputs, keras.layers.Dense(1)(inputs))
    model.compile("sgd", "mse", metrics=["mae"])
    model(keras.ops.zeros((1, 2)))
    return model


def compile_config() -> Any:
    return functional()._compile_config


def compile_loss() -> Any:
    return functional()._compile_loss


def compile_metrics() -> Any:
    return functional()._compile_metrics


def mean_of_function() -> Any:
    import keras

    return keras.metrics.MeanMetricWrapper(keras.losses.mean_squared_error)


def dense() -> Any:
    return functional().layers[-1]


def call_of_dense() -> Any:
    return dense()._inbound_nodes[0]


def symbolic_input() -> Any:
    return functional().inputs[0]


@functools.cache
def sequential() -> Any:
    import keras

    return keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])


@functools.cache
def adagrad() -> Any:
    import keras

    optimizer = keras.optimizers.Adagrad()
    optimizer.build(functional().trainable_variables)
    return optimizer


def tensor_of_logits() -> Any:
    import keras

    return keras.activations.softmax(keras.ops.zeros((1, 2)))


def callback() -> Any:
    import keras

    return keras.callbacks.Callback()


def tensorboard() -> Any:
    import keras

    return keras.callbacks.TensorBoard("nowhere")


def model_gone_on_with() -> Any:
    import keras

    backup = keras.callbacks.BackupAndRestore("nowhere")
    backup.set_model(functional())
    functional()._initial_epoch = None
    return functional()


def operation() -> Any:
    import tensorflow as tf

    with tf.Graph().as_default():
        return tf.constant(1.0).op


def function() -> Any:
    import tensorflow as tf

    return tf.function(abs)


def iterator() -> Any:
    import tensorflow as tf

    return iter(tf.data.Dataset.from_tensors(1.0))


def eager_context() -> Any:
    import tensorflow as tf
    from tensorflow.python.eager import context

    tf.random.set_seed(0)
    tf.random.uniform(())
    return context.context()


def tuner() -> Any:
    import keras_tuner

    return keras_tuner.engine.base_tuner.BaseTuner


def oracle() -> Any:
    import keras_tuner

    return keras_tuner.Oracle


def servicer() -> Any:
    from keras_tuner.src import protos

    return protos.get_service_grpc()


OWNERS: dict[Callable[[], Any], tuple[str, ...]] = {
    functional: (
        "_flatten_layers", "_layers", "_losses", "_non_trainable_variables",
        "_inputs_struct", "_outputs_struct", "_inputs",
        "_outputs", "_nodes", "_nodes_by_depth", "_operations", "_operations_by_depth",
        "_run_through_graph", "_compile_config", "_compile_loss", "_compile_metrics",
        "_loss_tracker", "_autoconvert_optionals", "_symbolic_build", "_make_function",
        "_saved_model_inputs_spec", "_dtype_policy", "train_function", "test_function",
        "predict_function", "make_train_function",
    ),
    compile_config: ("config",),
    compile_loss: ("_user_loss", "_user_loss_weights"),
    compile_metrics: ("_user_metrics",),
    mean_of_function: ("_fn",),
    dense: ("_inbound_nodes", "_outbound_nodes", "_kernel"),
    call_of_dense: ("output_tensors", "is_input"),
    symbolic_input: ("_keras_history",),
    sequential: ("_functional", "_maybe_rebuild", "_build_shapes_dict", "_tracker", "built"),
    adagrad: (
        "_learning_rate", "_trainable_variables", "_accumulators", "initial_accumulator_value",
        "_clip_gradients", "_all_reduce_sum_gradients",
    ),
    tensor_of_logits: ("_keras_logits",),
    model_gone_on_with: ("_initial_epoch",),
    callback: ("_model",),
    tensorboard: ("_writers", "_prev_summary_state"),
    operation: ("_update_input",),
    iterator: ("_iterator_resource",),
    function: ("_run_functions_eagerly", "python_function"),
    eager_context: ("op_callbacks", "_rng"),
    tuner: ("_try_run_and_update_trial", "_run_and_update_trial"),
    oracle: ("_project_dir",),
    servicer: ("add_OracleServicer_to_server",),
}  # fmt: skip
MODULES = {
    "keras.src.backend": ("get_keras_mask",),
    "keras.src.backend.tensorflow.trainer": ("reduce_per_replica",),
    "keras.src.models.functional": ("Functional", "functional_like_constructor"),
    "keras.src.ops.node": ("KerasHistory",),
    "keras.src.trainers.compile_utils": ("CompileLoss",),
    "keras.src.trainers.data_adapters": ("get_data_adapter",),
    "keras.src.trainers.data_adapters.array_data_adapter": (
        "ArrayDataAdapter", "can_convert_arrays",
    ),
    "keras.src.trainers.data_adapters.array_slicing": (
        "TensorflowSparseWrapper", "convert_to_sliceable", "slice_tensorflow_sparse_wrapper",
        "to_tensorflow_sparse_wrapper",
    ),
    "keras.src.utils.naming": ("to_snake_case",),
    "tensorflow.python.eager.context": ("context",),
    "tensorflow.python.pywrap_tfe": ("TFE_Py_FastPathExecute",),
    "tensorflow.python.eager.polymorphic_function.polymorphic_function": ("Function",),
    "tensorflow.python.framework.op_callbacks": ("add_op_callback", "remove_op_callback"),
    "tensorflow.python.util.tf_stack": ("extract_stack",),
    "keras_tuner.src.protos": ("get_service_grpc",),
    "keras_tuner.src.distribute.oracle_chief": ("OracleServicer",),
    "keras_tuner.src.engine.oracle": ("LOCKS", "THREADS"),
    "keras_tuner.src.engine": ("conditions",),
}  # fmt: skip
PREFIXES = ("_self_",)
# What nanfix does in the place of a method: (owner, method, digest of its code, what to
# compare with it).
REPLACED = (
    ("keras", "Model._make_function", "7748c2074eef55e5", "RecordingStep"),
    (
        "keras_tuner.engine.base_tuner",
        "BaseTuner._try_run_and_update_trial",
        "2ec75de3c7c4e38b",
        "StrictTuner",
    ),
    # The property as it was found, whether its stand-in is at work already or not.
    ("nanfix.private.tensorflow", "_by_switch.fget", "1533cc8e03f4ea69", "_run_eagerly"),
)
