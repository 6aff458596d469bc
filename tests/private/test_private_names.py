"""Every private name that nanfix uses is still there, reads as it did, and is used in
nanfix.private alone.
"""

import ast
import functools
import hashlib
import importlib
import inspect
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
PRIVATE = ROOT / "src" / "nanfix" / "private"
PACKAGES = ("keras.src", "tensorflow.python", "keras_tuner.src")
# Modules of Python's own, of which single private functions are documented.
OF_PYTHON = ("sys", "os", "runpy")
IN_FILES = ("tensorflow.python.keras",)  # what the user's own files may import


@pytest.fixture(autouse=True, scope="session")
def untuned():
    """Nothing is trained here, so a private name that is gone breaks no more than its own test."""


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
        "_flatten_layers", "_layers", "_losses", "_inputs_struct", "_outputs_struct", "_inputs",
        "_outputs", "_nodes", "_nodes_by_depth", "_operations", "_operations_by_depth",
        "_run_through_graph", "_compile_config", "_compile_loss", "_compile_metrics",
        "_loss_tracker", "_autoconvert_optionals", "_symbolic_build", "_make_function",
        "_saved_model_inputs_spec", "_dtype_policy", "train_function", "test_function",
        "predict_function", "make_train_function",
    ),
    compile_config: ("config",),
    compile_loss: ("_user_loss", "_user_loss_weights"),
    compile_metrics: ("_user_metrics",),
    dense: ("_inbound_nodes", "_outbound_nodes", "_kernel"),
    call_of_dense: ("output_tensors", "is_input"),
    symbolic_input: ("_keras_history",),
    sequential: ("_functional", "_maybe_rebuild", "_build_shapes_dict", "built"),
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
    "tensorflow.python.eager.polymorphic_function.polymorphic_function": ("Function",),
    "tensorflow.python.framework.op_callbacks": ("add_op_callback", "remove_op_callback"),
    "tensorflow.python.util.tf_stack": ("extract_stack",),
    "keras_tuner.src.protos": ("get_service_grpc",),
    "keras_tuner.src.distribute.oracle_chief": ("OracleServicer",),
    "keras_tuner.src.engine.oracle": ("LOCKS", "THREADS"),
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


ATTRIBUTES = [
    pytest.param(o, name, id=f"{o.__name__}.{name}")
    for o, names in OWNERS.items()
    for name in names
]


@pytest.mark.parametrize(("owner", "name"), ATTRIBUTES)
def test_attribute_is_there(owner, name):
    thing = owner()
    assert hasattr(thing, name), (
        f"{type(thing).__name__} has no attribute {name!r} any more: see nanfix.private"
    )


@pytest.mark.parametrize(
    ("module", "name"), [(module, name) for module, names in MODULES.items() for name in names]
)
def test_module_has_the_name(module, name):
    assert hasattr(importlib.import_module(module), name), (
        f"{module} has no {name!r} any more: see nanfix.private"
    )


@pytest.mark.parametrize(("module", "method", "digest", "ours"), REPLACED)
def test_what_is_done_in_its_place_reads_as_it_did(module, method, digest, ours):
    function = functools.reduce(getattr, method.split("."), importlib.import_module(module))
    code = ast.unparse(ast.parse(textwrap.dedent(inspect.getsource(function))))
    now = hashlib.sha256(code.encode()).hexdigest()[:16]
    assert now == digest, (
        f"{module}.{method} has changed: compare it with {ours}, then write {now!r} here"
    )


def test_the_lists_name_all_that_is_used():
    used = {
        name
        for path in PRIVATE.glob("*.py")
        for name in _private_names(ast.parse(path.read_text()))
    }
    known = {name for names in OWNERS.values() for name in names}
    assert used - known - set(PREFIXES) == set()
    imported = {
        name
        for path in PRIVATE.glob("*.py")
        for name in _private_imports(ast.parse(path.read_text()))
    }
    listed = {f"{module}.{name}" for module, names in MODULES.items() for name in names}
    assert imported - listed - set(MODULES) == set()
    assert {module for module in MODULES if module not in imported} == {
        name.rpartition(".")[0] for name in imported & listed
    }


@pytest.mark.parametrize("folder", ["src/nanfix", "strategies"])
def test_no_private_name_is_used_elsewhere(folder):
    trees = {
        path: ast.parse(path.read_text())
        for path in sorted((ROOT / folder).rglob("*.py"))
        if PRIVATE not in path.parents
    }
    known = {name for names in OWNERS.values() for name in names if name.startswith("_")}
    own = {name for tree in trees.values() for name in _defined(tree)}
    found = []
    for path, tree in trees.items():
        found += [
            f"{path}: {name}" for name in sorted(_private_imports(tree)) if name not in IN_FILES
        ]
        found += [f"{path}:{line}: {name}" for line, name in _uses(tree, known, own)]
    assert not found, "\n".join(["Expected: used in nanfix.private alone. Received:", *found])


def _private_imports(tree: ast.AST) -> set[str]:
    """Return the full names that are imported from private modules, and the names of
    such modules as text.
    """
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and not node.level:
            full = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name for name in full if name.startswith(PACKAGES)}
            found |= {
                name
                for name in full
                if name.startswith(("keras", "tensorflow")) and "._" in name and ".__" not in name
            }
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.startswith(PACKAGES)}
        elif (
            isinstance(node, ast.Constant) and isinstance(node.value, str) and " " not in node.value
        ):
            found |= {node.value} if node.value.startswith(PACKAGES) else set()
    return found


def _private_names(tree: ast.AST) -> set[str]:
    """Return the private attributes of other objects, as code and as text."""
    own = _defined(tree)
    nodes = list(ast.walk(tree))
    attributes = {
        node.attr for node in nodes if isinstance(node, ast.Attribute) and _is_private(node.attr)
    }
    texts = {
        node.value
        for node in nodes
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    return (attributes - own) | {
        text for text in texts if _is_private(text) and text.isidentifier()
    }


def _uses(tree: ast.AST, known: set[str], own: set[str]) -> list[tuple[int, str]]:
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and _is_private(node.attr):
            holder = node.value.id if isinstance(node.value, ast.Name) else ""
            ours = node.attr in own and (node.attr not in known or holder in ("self", "cls"))
            if not ours and holder not in OF_PYTHON:
                found.append((node.lineno, node.attr))
        elif isinstance(node, ast.Constant) and node.value in known:
            found.append((node.lineno, node.value))
    return found


def _defined(tree: ast.AST) -> set[str]:
    """Return the names of what is defined in a file, attributes of `self` and fields of
    classes too.
    """
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not (
            isinstance(node, ast.FunctionDef) and _overrides(node)
        ):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif (
            isinstance(node, ast.Attribute)
            and isinstance(node.ctx, ast.Store)
            and ast.unparse(node.value) == "self"
        ):
            names.add(node.attr)
    return names


def _overrides(node: ast.FunctionDef) -> bool:
    return any(node.name in names for names in OWNERS.values())


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")
