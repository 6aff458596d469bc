"""Records of reruns: which of them are cures."""

from nanfix.explain.counterfactuals import Rerun


def test_rerun_whose_loss_rises_is_no_cure():
    assert Rerun("", 3, 3, before=1.0, after=0.5).cured
    assert Rerun("", 3, 3, before=-1.0, after=-1.5).cured
    assert not Rerun("", 8, 8, before=1.0, after=9.0).cured
    assert not Rerun("", 2, 3).cured
