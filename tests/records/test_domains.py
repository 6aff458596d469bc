"""The domain of a base, which depends on its exponent."""

import pytest

from nanfix.records.domains import domain_of_base, kind_of_exponent


@pytest.mark.parametrize(
    ("exponent", "name"),
    [
        (0.5, "above 0"),
        (-0.5, "above 0"),
        (-1.0, "away from zero"),
        (0.0, "away from zero"),
        (1.0, None),
        (2.0, None),
    ],
)
def test_domain_of_a_base_is_that_of_its_exponent(exponent, name):
    domain = domain_of_base(kind_of_exponent(exponent))
    assert (domain and domain.name) == name
