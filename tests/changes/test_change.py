"""The contract of a kind of change: what a class has to say of itself when it is defined."""

from dataclasses import dataclass
from typing import ClassVar

import pytest

from nanfix.changes.change import Change
from nanfix.changes.loss import Loss, RobustLoss
from nanfix.changes.normalization import Normalized
from nanfix.changes.optimizer import OptimizerSettings
from nanfix.changes.scaling import Scaling


def test_a_kind_without_a_name_is_refused_when_it_is_defined():
    with pytest.raises(TypeError, match=r"Nameless has no name\. Expected: .* Received: none\."):

        @dataclass(frozen=True)
        class Nameless(Change):
            layers: tuple[str, ...] = ()


def test_a_name_that_another_kind_has_is_refused():
    """A plan would hold the one in the place of the other."""
    with pytest.raises(
        TypeError, match=r"Received: 'scaling', the kind of nanfix\.changes\.scaling\.Scaling\."
    ):

        @dataclass(frozen=True)
        class Scales(Change):
            kind: ClassVar[str] = "scaling"


def test_a_form_of_a_kind_inherits_its_name():
    class Another(Loss):
        pass

    assert Another.kind == Loss.kind == RobustLoss.kind


def test_a_kind_can_be_defined_again():
    def define():
        class Again(Change):
            kind: ClassVar[str] = "defined again"

        return Again

    assert define() is not define()


def test_kinds_that_put_something_in_or_take_something_out_may_change_predictions():
    class Silent(Change):
        kind: ClassVar[str] = "silent"

    class PutsIn(Change):
        kind: ClassVar[str] = "puts in"

        def hand_back(self, shop, plan, undo):
            return []

    class TakesOut(Change):
        kind: ClassVar[str] = "takes out"

        def install_for_training(self, shop, plan):
            pass

    assert PutsIn().may_change_predictions and TakesOut().may_change_predictions
    assert not Silent().may_change_predictions and not OptimizerSettings().may_change_predictions
    assert (
        Normalized(("dense[0]",)).may_change_predictions and not Normalized().may_change_predictions
    )
    assert (
        Scaling(fills={"input[0]": (0.0,)}).may_change_predictions
        and not Scaling().may_change_predictions
    )
