"""The table of legal trainings: models x data x ways to train, each tiny, each in a
healthy and an explosive form.
"""

import legal.execution
import legal.feeds
import legal.inputs
import legal.networks
import legal.precisions
import legal.rates
import legal.steps
import legal.streams
import legal.unlabeled  # noqa: F401
from legal.training import TABLE

__all__ = ["TABLE"]
