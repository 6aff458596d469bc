"""What a fix changes in the source for all fit calls that want it, counted together."""

from nanfix.patch.counted import together
from nanfix.records.source_changes import ArgumentChange, LayerChange, NoPlace


def dense(line, edits):
    place = {"file": "train.py", "line": line, "column": 0, "end_line": line, "end_column": 9}
    target = {"place": place, "callee": "Dense", "made": 3}
    return ArgumentChange(target=target, name="activation", value="'tanh'", edits=edits)


def test_the_same_change_of_several_calls_is_one_that_changes_all_they_make():
    other, none = dense(5, [0]), NoPlace(reason="nowhere", edits=[1])
    first, nowhere, second = together(
        [dense(3, [1]), none, other, dense(3, [0]), none, dense(3, [0])]
    )
    assert nowhere == none
    assert (first.target.changed, first.edits, second.target.changed) == (3, [1], 1)


def test_layers_of_models_that_one_place_makes_again_and_again_are_one_change():
    """When the first is trained the place has made one model, when the second is, two."""
    place = {"file": "train.py", "line": 3, "column": 0, "end_line": 3, "end_column": 9}

    def filled(models):
        target, model = (
            {"place": place, "callee": callee, "made": models} for callee in ("Input", "Sequential")
        )
        layers = {"layers": ["FillHoles(FILL)"], "side": "after", "role": "scaled"}
        return LayerChange.model_validate({"target": target, "model": model, **layers})

    (change,) = together([filled(1), filled(2)])
    assert change.target.changed == 2
