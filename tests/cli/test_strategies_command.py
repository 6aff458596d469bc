"""`strategies`."""

import json

from nanfix.remedies.registry import catalogue


def test_strategies_pipe_as_tab_separated_lines(nanfix):
    code, output, _ = nanfix("strategies")
    assert code == 0
    assert output.splitlines()[1].split("\t") == [
        "halve",
        "2 optimizer",
        "exploding gradient, learning rate",
        "",
        "",
        "Halve the [learning] rate.",
        "arXiv:0000.00000",
    ]


def test_strategies_as_json_and_by_name(nanfix):
    (told,) = json.loads(nanfix("strategies", "--json")[1])["strategies"]
    assert told == {
        "name": "halve",
        "tier": 2,
        "treats": ["EXPLODING_GRADIENT", "LEARNING_RATE"],
        "eases": [],
        "parameters": [],
        "keeps_weights": True,
        "discards_data": False,
        "reference": "arXiv:0000.00000",
    }
    assert nanfix("strategies", "--quiet")[1] == "halve\n"


def test_the_installed_strategies_can_all_be_shown():
    for strategy in catalogue().values():
        assert (
            strategy.summary
            and strategy.treats | strategy.eases
            and isinstance(strategy.parameters, tuple)
        )
