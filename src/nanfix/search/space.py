"""The space of a search: which strategies apply, with which parameters, and the fix
that a candidate means.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import keras_tuner

from nanfix.changes.plan import Plan
from nanfix.model.faults import Net, one_line
from nanfix.model.run import Run
from nanfix.records.diagnosis import Diagnosis
from nanfix.remedies.fix import Edit, Fix
from nanfix.remedies.strategy import Strategy, Tier
from nanfix.search.candidates import Candidate, Family, in_order
from nanfix.search.ladder import bases

STRONG = 0.5  # weight of a finding from which its remedies are tried first, and together
# Where keras-tuner has a range instead of values, it is tried at these shares of its probability:
# the two ends and thirds.
QUANTILES = (0.01, 0.33, 0.66, 0.99)


@dataclass(frozen=True)
class Space:
    """The applicable strategies as one keras-tuner space: a switch for each, its
    parameters in a scope under it.

    `levels` lists, mild to strong, the values of each strategy's parameters; `refused` gives the
    reason for each strategy that treats or eases the cause but cannot be applied here.
    """

    strategies: Mapping[str, Strategy]
    families: tuple[Family, ...]
    levels: Mapping[str, tuple[Mapping[str, Any], ...]]
    hyperparameters: keras_tuner.HyperParameters
    diagnosis: Diagnosis
    run: Run
    plan: Plan
    refused: Mapping[str, str]
    _fixes: dict[Candidate, Fix] = field(default_factory=dict, compare=False, repr=False)

    def values(self, candidate: Candidate) -> dict[str, Any]:
        """Return the values by which keras-tuner knows a candidate."""
        chosen = dict(candidate)
        values: dict[str, Any] = {name: name in chosen for name in self.strategies}
        for name, level in candidate:
            values.update(self.levels[name][level])
        return values

    def candidate(self, values: Mapping[str, Any]) -> Candidate:
        """Return the candidate that these values stand for."""
        pairs = []
        for name in self.strategies:
            if values.get(name):
                own = {key: value for key, value in values.items() if key.startswith(f"{name}/")}
                pairs.append((name, self.levels[name].index(own)))
        return in_order(tuple(pairs), self.families)

    def data_fixes(self) -> list[Fix]:
        """Return the changes to the data alone: those that the evidence calls for
        first, then the other ones.
        """
        return [self.fix_of(base) for base in bases(self.families) if base]

    def called_for(self) -> Fix:
        """Return what strong evidence calls for, each strategy at its mildest."""
        called = tuple((family.strategy, 0) for family in self.families if family.called_for)
        return self.fix_of(in_order(called, self.families))

    def fix_of(self, candidate: Candidate) -> Fix:
        """Return the fix that a candidate means for this run. Its strategies are asked once: they
        may go through all of the data for what they answer.
        """
        candidate = in_order(candidate, self.families)
        if candidate not in self._fixes:
            self._fixes[candidate] = self._asked_for(candidate)
        return self._fixes[candidate]

    def _asked_for(self, candidate: Candidate) -> Fix:
        hp = self.hyperparameters.copy()
        hp.values = self.values(candidate)
        fix, plan = Fix(), self.plan
        for name, _ in candidate:
            with _scope(hp, name):
                edit = Edit(name, self.strategies[name].space(hp, self.diagnosis, self.run, plan))
            plan = Fix((edit,)).plan(self.run, plan)
            fix = Fix((*fix.edits, edit))
        return fix


def build_space(
    strategies: Mapping[str, Strategy],
    diagnosis: Diagnosis,
    run: Run,
    plan: Plan | None = None,
    net: Net | None = None,
) -> Space:
    """Ask every strategy that applies for its parameters, each in a conditional scope of its own.

    A strategy that raises an exception is left out, which is a fault for the `net`.
    """
    net, plan = net or Net(), plan or Plan()
    hp = keras_tuner.HyperParameters()
    strong = {finding.cause for finding in diagnosis.findings if finding.weight >= STRONG}
    alone = {finding.cause for finding in diagnosis.findings if finding.learned}
    mended = {finding.cause for finding in diagnosis.findings if finding.mended}
    # What is taken away in a rerun by more than a knob of the optimizer.
    not_of_knobs = {
        cause for each in strategies.values() if each.tier > Tier.OPTIMIZER for cause in each.treats
    }
    refused: dict[str, str] = {}
    applicable: dict[str, Strategy] = {}
    families, levels, covered = [], {}, set()
    for name, strategy in strategies.items():
        if not strategy.answers(diagnosis):
            continue
        reason, hp = _asked(hp, name, strategy, diagnosis, run, plan, net)
        if reason is not None:
            refused[name] = reason
            continue
        applicable[name] = strategy
        levels[name] = tuple(_levels([p for p in hp.space if p.name.startswith(f"{name}/")]))
        treated = strategy.treats & strong
        indicated, last_resort = bool(treated), not strategy.treats & diagnosis.causes
        own = treated - not_of_knobs if strategy.tier == Tier.OPTIMIZER else treated
        # A second change to the data for the same cause is an alternative.
        if strategy.tier == Tier.DATA:
            treated, covered = treated - covered, covered | treated
        called_for = strategy.tier != Tier.OPTIMIZER and bool(treated)
        mends = strategy.tier == Tier.NUMERICS and bool(treated & mended)
        families.append(
            Family(
                name,
                int(strategy.tier),
                len(levels[name]),
                called_for,
                indicated,
                last_resort,
                strategy.instead_of,
                bool(own & alone),
                mends,
                called_for and strategy.exact,
            )
        )
    hp.values = dict.fromkeys(applicable, False)
    return Space(applicable, tuple(families), levels, hp, diagnosis, run, plan, refused)


def _asked(
    hp: keras_tuner.HyperParameters,
    name: str,
    strategy: Strategy,
    diagnosis: Diagnosis,
    run: Run,
    plan: Plan,
    net: Net,
) -> tuple[str | None, keras_tuner.HyperParameters]:
    """Return why a strategy cannot be applied, None where it can, and `hp`, then with a switch for
    it and, in a scope under that, its parameters.
    """
    try:
        reason = strategy.refusal(diagnosis, run, plan)
        if reason is None:
            declared = hp.copy()
            declared.Boolean(name)
            declared.values[name] = True  # keras-tuner declares nothing that is switched off
            with _scope(declared, name):
                strategy.space(declared, diagnosis, run, plan)
            return None, declared
    except Exception as error:  # whatever somebody's strategy does
        net.kept(f"asking the strategy {name}", error)
        reason = f"it failed ({one_line(error)})"
    return reason, hp


@contextlib.contextmanager
def _scope(hp: keras_tuner.HyperParameters, name: str) -> Iterator[None]:
    with hp.conditional_scope(name, [True]), hp.name_scope(name):
        yield


def _levels(parameters: Sequence[Any]) -> list[dict[str, Any]]:
    """Return the levels, mild to strong; where several parameters vary, they grow
    stronger together.
    """
    columns = {
        p.name: list(getattr(p, "values", None) or [p.prob_to_value(q) for q in QUANTILES])
        for p in parameters
    }
    count = max(map(len, columns.values()), default=1)
    return [
        {name: column[min(level, len(column) - 1)] for name, column in columns.items()}
        for level in range(count)
    ]
