"""The space of a search: candidates, and the values by which keras-tuner knows them."""


def test_candidates_and_values_stand_for_each_other(space):
    candidate = (("scale-inputs", 1), ("lower-learning-rate", 3))
    assert space.candidate(space.values(candidate)) == candidate
