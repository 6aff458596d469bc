"""All that is known of a failed run when its causes are ranked, as one record."""

from dataclasses import dataclass, field

from nanfix.explain.audit import Audit
from nanfix.explain.counterfactuals import Counterfactuals
from nanfix.explain.growth import Growth
from nanfix.explain.microscope import Observation
from nanfix.explain.replay import Replay
from nanfix.model.run import Run


@dataclass(frozen=True)
class Evidence:
    """What the replay has seen, what the data and the weights show, and what reruns came to.

    `ruined_by` says which callback has set weights that are not finite.
    """

    run: Run
    seen: Replay
    audit: Audit
    growth: Growth
    tried: Counterfactuals = field(default_factory=Counterfactuals)
    ruined_by: str | None = None

    @property
    def failing(self) -> Observation:
        """The failing step, as far as it could be looked into."""
        return self.seen.failing or Observation()
