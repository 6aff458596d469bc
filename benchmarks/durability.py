"""Kill a training at random moments, call again, and see that it goes on from the
newest snapshot and ends well.

usage: python benchmarks/durability.py [--kills 20] [--seed 0] [--seconds 8]

One run with a run_dir, whose training goes NaN half-way, is started again and again; each time its
process is killed (SIGKILL) after a random part of --seconds of training. After each kill every
snapshot on disk must be whole. In the end the call is left alone: it must finish with a finite
model that has learned.
"""

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RUN = """
import os, sys
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import keras, numpy as np, nanfix
from nanfix import Outcome

class Ramp(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        self.model.optimizer.learning_rate = 0.01 * 1.04 ** epoch

keras.utils.set_random_seed(0)
rng = np.random.default_rng(0)
x = rng.normal(size=(4096, 8)).astype("float32")
y = np.sin(x[:, :1]) + x[:, 1:2] * x[:, 2:3]
layers = [keras.layers.Dense(64, "relu"), keras.layers.Dense(64, "relu"), keras.layers.Dense(1)]
model = keras.Sequential([keras.Input((8,)), *layers])
model.compile(keras.optimizers.SGD(0.01, momentum=0.9), "mse")
print("training", flush=True)
report = nanfix.fit(model, x, y, epochs=180, verbose=0, callbacks=[Ramp()], validation_split=0.2, run_dir=sys.argv[1])
finite = all(np.isfinite(w).all() for w in model.get_weights())
for note in report.notes:
    print("note:", note)
print("outcome:", report.outcome.name, "finite:", finite, "epochs:", report.epoch[0], report.epoch[-1], len(report.epoch))
print("R2:", 1 - float(np.mean((model.predict(x, verbose=0) - y) ** 2) / np.var(y)))
"""  # noqa: E501


def started(folder):
    command = [sys.executable, "-c", RUN, str(folder)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.strip() == "training":
            break
    return process


def snapshots(folder):
    """Return how many snapshots there are, all of them readable, the steps behind the newest, and
    of which training it is.
    """
    from nanfix.recorder.snapshot_files import SnapshotStore
    from nanfix.report.run_dir import ADOPTED

    files = sorted(folder.rglob("*.safetensors"), key=lambda file: file.stat().st_mtime)
    stores = [SnapshotStore(holding) for holding in {file.parent for file in files}]
    if len(files) != sum(len(store.saved()) for store in stores):
        raise SystemExit(f"A snapshot in {folder} is not whole.")
    newest = SnapshotStore(files[-1].parent).saved()[-1].total if files else 0
    return len(files), newest, "repaired" if files and ADOPTED in files[-1].parts else "first"


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=8.0)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "run"
        for kill in range(1, options.kills + 1):
            process, wait = started(folder), rng.uniform(0.0, options.seconds)
            try:
                process.wait(wait)
                print(f"run {kill:2}: ended before it was killed")
                return
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            count, total, training = snapshots(folder)
            seen = f"{count} snapshots, the newest {total} steps into the {training} training"
            print(f"kill {kill:2}: after {wait:4.1f} s; {seen}", flush=True)
        begun = time.perf_counter()
        process = started(folder)
        print(process.communicate()[0].strip(), f"({time.perf_counter() - begun:.1f} s)")


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    main()
