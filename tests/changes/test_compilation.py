"""Whether XLA compiles the step: in the user's object, in a saved model, and taken back."""

from contextlib import ExitStack
from types import SimpleNamespace

import explosions
import keras
import pytest

from nanfix.changes.compilation import Compilation
from nanfix.changes.plan import Plan
from nanfix.private.objects import compile_config

OFF = Compilation(jit_compile=False)


def installed(model, undo, change=OFF):
    change.install(SimpleNamespace(model=model, repair=undo), Plan().with_change(change))


def test_the_model_and_a_saved_one_are_compiled_otherwise_until_it_is_taken_back(tmp_path):
    model = explosions.mlp(jit_compile=True)
    with ExitStack() as undo:
        installed(model, undo)
        model.save(tmp_path / "model.keras")
        again = keras.models.load_model(tmp_path / "model.keras")
        assert not model.jit_compile and not again.jit_compile
    assert model.jit_compile and compile_config(model).config["jit_compile"] is True


def test_nothing_is_changed_where_nothing_is_said():
    model = explosions.mlp(jit_compile=True)
    with ExitStack() as undo:
        installed(model, undo, Compilation())
        assert model.jit_compile


@pytest.mark.parametrize("jit", [True, False])
def test_graphs_of_both_are_kept_apart(jit):
    keys = {repr(each.graph_key(None)) for each in (Compilation(), Compilation(jit), OFF)}
    assert len(keys) == 2 + jit


class Own(keras.Model):
    """Compiled in its own way, as a GAN is."""

    def compile(self, optimizer):
        super().compile(optimizer=optimizer, loss="mse")


def test_a_compile_that_takes_no_such_argument_has_no_place_for_it():
    model = Own()
    model.compile("sgd")
    call = SimpleNamespace(compiled=object())
    (told,) = OFF.in_source(SimpleNamespace(model=model), Plan(), call)
    assert str(told) == "the model's own compile takes no jit_compile"
    (told,) = OFF.in_source(SimpleNamespace(model=model), Plan(), SimpleNamespace(compiled=None))
    assert "compile is not in the script's own code" in str(told)
