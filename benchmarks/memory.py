"""Does a long search grow the memory of its process?

usage: python benchmarks/memory.py [--trials 200]

Runs that many trials of one failed run, over and over through candidates with different
graphs (activations, optimizers, clipping, scalings), and prints the resident memory of
the process on the way.
"""

import argparse
import itertools
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import _drawn
import psutil

from nanfix.data.training_data import TrainingData
from nanfix.explain.incident import Incident
from nanfix.install.workbench import Workbench
from nanfix.recorder.watch import Watching, watch
from nanfix.remedies.fix import Fix
from nanfix.remedies.registry import select
from nanfix.search.judge import Judge
from nanfix.search.space import build_space
from nanfix.search.verdict import Baselines

EVERY = 20


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=200)
    trials = parser.parse_args().trials
    model, x, y, arguments = _drawn.case(0).build()
    data = TrainingData.of(x, y, {**arguments, "verbose": 0})
    incident = Incident(model, data, watch(model, data), Watching(), 0)
    space = build_space(select(None), incident.diagnose(), incident.run)
    edits = [edit for name in space.strategies for edit in _levels(space, name)]
    fixes = [
        Fix(pair)
        for pair in itertools.combinations(edits, 2)
        if pair[0].strategy != pair[1].strategy
    ]
    bench = Workbench(incident.run, data, incident.validation, incident.sites)
    bench.open()
    judge, process = Judge(incident.failed, bench, Baselines()), psutil.Process()
    print(f"{len(fixes)} candidates\n| trials | resident memory, MB |\n|---|---|")
    for number, fix in zip(range(1, trials + 1), itertools.cycle(fixes)):
        judge(fix)
        if number % EVERY == 0:
            print(f"| {number} | {process.memory_info().rss / 1e6:.0f} |", flush=True)
    bench.close()


def _levels(space, name):
    for level in range(len(space.levels[name])):
        yield from space.fix_of(((name, level),)).edits


if __name__ == "__main__":
    main()
