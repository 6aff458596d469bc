"""The table of operations: each is complete, and whatever needs it can load it."""

import subprocess
import sys

import keras
import pytest
import tensorflow as tf

from nanfix.records.unsafe_operations import UNSAFE_OPERATIONS

EACH = pytest.mark.parametrize("each", UNSAFE_OPERATIONS.values(), ids=lambda each: each.name)
PACKAGES = {"tf": (tf, tf.math, tf.linalg, tf.nn), "ops": (keras.ops,)}


def test_the_table_is_free_of_tensorflow():
    code = (
        "import sys, nanfix.records.unsafe_operations; print(sorted({'tensorflow', 'keras', "
        "'libcst'} & sys.modules.keys()))"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout
        == "[]\n"
    )


@EACH
def test_operation_has_words_levels_and_a_source(each):
    for epsilon in each.epsilons:
        words = each.written(epsilon)
        compile(words, "words", "eval")
        assert "{" not in words and each.letter in words
        if epsilon == 0 and each.at_zero is not None:
            continue  # another operation, without an operand that is kept anywhere
        text, helper = each.domain.source(epsilon)
        assert "{x}" in text and (helper is None or helper.call.split("(")[0] in helper.code)
    assert each.epsilons == tuple(sorted(each.epsilons)) and set(
        each.epsilons_of_loss or ()
    ) <= set(each.epsilons)
    named = [
        name
        for name in each.functions
        if any(hasattr(module, name) for modules in PACKAGES.values() for module in modules)
    ]
    assert named, "neither TensorFlow nor keras.ops has a function of that name"
