"""Which end of a metric is better: every metric of Keras is known, and names as in the logs."""

import inspect

import keras
import pytest

from nanfix.model.metrics import HIGHER_IS_BETTER, LOWER_IS_BETTER, NEITHER, better_end
from nanfix.private.keras import to_snake_case

METRICS = {
    name: kind
    for name, kind in vars(keras.metrics).items()
    if isinstance(kind, type) and issubclass(kind, keras.Metric)
}


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_of_keras_is_in_one_table_by_the_name_that_it_has_in_the_logs(name):
    default = inspect.signature(METRICS[name]).parameters.get("name")
    given = default.default if default is not None else None
    logged = given if isinstance(given, str) else to_snake_case(name)
    tables = (HIGHER_IS_BETTER, LOWER_IS_BETTER, NEITHER)
    assert sum(logged in table for table in tables) == 1, logged


@pytest.mark.parametrize(
    ("figure", "end"),
    [
        ("r2_score", "max"),
        ("price_r2_score", "max"),
        ("mean_io_u_3", "max"),
        ("price_mean_absolute_error_1", "min"),
        ("cosine_similarity", None),
        ("output_cosine_similarity", None),
        ("regret", None),
        ("my_mean", None),
    ],
)
def test_name_of_the_output_and_number_are_left_out(figure, end):
    assert better_end(figure) == end
