"""What is refused before anything changes."""

import pytest
from broken import exploding

import nanfix
from nanfix.records.errors import InputError


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("budget", 3),
        ("workers", 0),
        ("workers", "two"),
        ("strategies", "scale-inputs"),
        ("forbid", "scale-inputs"),
        ("seed", 0.5),
        ("fix", "fix.json"),
    ],
)
def test_an_argument_of_the_wrong_kind_is_refused_at_the_door(argument, value, tmp_path):
    model, x, y, arguments = exploding()
    with pytest.raises(InputError, match=rf"^{argument} .* Expected: .* Received: {argument}="):
        nanfix.fit(model, x, y, run_dir=tmp_path / "run", **{argument: value}, **arguments)
    assert not (tmp_path / "run").exists()
