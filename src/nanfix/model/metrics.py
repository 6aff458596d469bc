"""Which end of a metric is the better one, by the names that Keras gives its metrics."""

import re

HIGHER_IS_BETTER = frozenset(
    {
        "acc",
        "accuracy",
        "auc",
        "binary_accuracy",
        "binary_io_u",
        "categorical_accuracy",
        "concordance_correlation",
        "f1_score",
        "fbeta_score",
        "io_u",
        "mean_io_u",
        "one_hot_io_u",
        "one_hot_mean_io_u",
        "pearson_correlation",
        "precision",
        "precision_at_recall",
        "r2_score",
        "recall",
        "recall_at_precision",
        "sensitivity_at_specificity",
        "sparse_categorical_accuracy",
        "sparse_top_k_categorical_accuracy",
        "specificity_at_sensitivity",
        "top_k_categorical_accuracy",
        "true_negatives",
        "true_positives",
    }
)
LOWER_IS_BETTER = frozenset(
    {
        "binary_crossentropy",
        "binary_focal_crossentropy",
        "categorical_crossentropy",
        "categorical_focal_crossentropy",
        "categorical_hinge",
        "false_negatives",
        "false_positives",
        "hinge",
        "huber",
        "kl_divergence",
        "log_cosh",
        "logcosh",
        "mae",
        "mape",
        "mean_absolute_error",
        "mean_absolute_percentage_error",
        "mean_squared_error",
        "mean_squared_logarithmic_error",
        "mse",
        "msle",
        "poisson",
        "root_mean_squared_error",
        "sparse_categorical_crossentropy",
        "squared_hinge",
    }
)
# A sum or a mean of anything; and the cosine, which as a metric grows with similarity and as a loss
# function of the same name falls.
NEITHER = frozenset({"mean", "sum", "metric", "mean_metric_wrapper", "cosine_similarity"})
_COUNTED = re.compile(r"_\d+$")  # of the second metric of the same name


def better_end(figure: str) -> str | None:
    """Return "max" or "min", whichever is better for a figure in Keras' logs; None where its name
    does not say so.

    The figure may bear the name of its output in front and a number behind, as in
    "price_r2_score" and "auc_1".
    """
    name = _COUNTED.sub("", figure)
    for end, names in (("max", HIGHER_IS_BETTER), ("min", LOWER_IS_BETTER)):
        if name in names:
            return end
    parts = name.split("_")
    tails = ("_".join(parts[start:]) for start in range(1, len(parts)))
    return next((better_end(tail) for tail in tails if _is_known(tail)), None)


def _is_known(name: str) -> bool:
    return name in HIGHER_IS_BETTER | LOWER_IS_BETTER | NEITHER
