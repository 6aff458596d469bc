"""The outputs of a model, each by itself."""

import keras
import numpy as np
import pytest

from nanfix.model.outputs import class_count, in_order, outputs_of, trained_outputs
from nanfix.model.run import Run, Sample
from nanfix.testing import contract

NO_DATA = Sample((), ())


def heads(*wanted):
    inputs = keras.Input((3,))
    return keras.Model(
        inputs,
        [keras.layers.Dense(n, activation=a, name=name)(inputs) for name, n, a in wanted],
    )


def test_each_output_has_its_loss_and_the_layer_that_gives_it():
    model = heads(("price", 1, None), ("kind", 3, "softmax"))
    losses = {"kind": "sparse_categorical_crossentropy", "price": "mse"}
    model.compile("sgd", losses)
    x = keras.random.normal((8, 3)).numpy()
    run = contract.run_of(model, x, [x[:, :1], x[:, 0] * 0])
    found = [(o.logged, o.loss, o.shape, o.activation, o.address) for o in outputs_of(run)]
    assert found == [
        ("price_loss", "mse", (1,), "linear", "price"),
        ("kind_loss", "sparse_categorical_crossentropy", (3,), "softmax", "kind"),
    ]


class Own(keras.Model):
    """Gives scores of three classes."""

    def __init__(self):
        super().__init__()
        self.scores = keras.layers.Dense(3)

    def call(self, inputs):
        return self.scores(inputs)


@pytest.mark.parametrize(
    ("model", "loss", "classes"),
    [
        (heads(("kind", 3, None)), "sparse_categorical_crossentropy", 3),
        (Own(), "sparse_categorical_crossentropy", 3),
        (heads(("kind", 3, None)), "categorical_crossentropy", None),
        (heads(("a", 3, None), ("b", 3, None)), "sparse_categorical_crossentropy", None),
    ],
    ids=["functional", "of an own class", "targets are shares", "several outputs"],
)
def test_classes_are_counted_where_targets_are_their_indices(model, loss, classes):
    model.compile("sgd", loss)
    x = np.zeros((8, 3), "float32")
    y = [np.zeros(8, "int32")] * max(1, len(getattr(model, "outputs", None) or ()))
    assert class_count(contract.run_of(model, x, y if len(y) > 1 else y[0])) == classes


@pytest.mark.parametrize("weights", [[1.0, 0.0], {"price": 1.0, "sold": 0.0}])
def test_an_output_that_is_weighed_with_0_is_not_trained(weights):
    model = heads(("price", 1, None), ("sold", 1, "sigmoid"))
    model.compile("sgd", ["mse", "binary_crossentropy"], loss_weights=weights)
    assert trained_outputs(Run.of(model, NO_DATA)) == ["price_loss"]


def test_outputs_are_told_apart_where_there_are_several():
    model = heads(("price", 1, None), ("sold", 1, "sigmoid"))
    model.compile("sgd", ["mse", "binary_crossentropy"])
    assert trained_outputs(Run.of(model, NO_DATA)) == ["price_loss", "sold_loss"]
    assert trained_outputs(Run.of(heads(("price", 1, None)), NO_DATA)) == []


def test_targets_of_a_dict_come_in_the_order_of_the_outputs():
    assert in_order([1, 2], {"b": 0, "a": 0}, ["b", "a"]) == [2, 1]
    assert in_order([1, 2], frozenset(("a", "b")), ["b", "a"]) == [2, 1]
    assert in_order([1, 2], [0, 0], ["b", "a"]) == [1, 2]
