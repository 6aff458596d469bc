"""Trainings of the catalogue that are tested together."""

from explosions.domains import handwritten_log, root_of_distance
from explosions.holes import every_input_nan, every_target_nan, missing_cells, nan_target
from explosions.networks import initialization, recurrence
from explosions.optimization import adam_without_epsilon, learning_rate
from explosions.scales import unscaled_inputs, unscaled_targets

REPAIRABLE = (
    learning_rate,
    unscaled_inputs,
    unscaled_targets,
    initialization,
    recurrence,
    handwritten_log,
    root_of_distance,
    missing_cells,
    nan_target,
)
HOPELESS = (every_target_nan, every_input_nan)
UNTREATED = (adam_without_epsilon, missing_cells, nan_target)  # by smaller steps
