"""Run by test_legal.py in a process of its own: trainings on two devices, which have to be named
before TensorFlow starts.
"""

import json
import sys
import traceback
from pathlib import Path

import mirrored

mirrored.two_replicas()

from legal import TABLE, harness  # noqa: E402
from nanfix import Budget  # noqa: E402


def came_of(name, folder):
    try:
        harness.check_healthy(TABLE[name])
        harness.check_broken(
            TABLE[name],
            folder,
            budget=Budget(trials=4),
            strategies=["lower-learning-rate", "scale-inputs"],
        )
    except Exception:
        return traceback.format_exc()
    return None


if __name__ == "__main__":
    print(json.dumps({name: came_of(name, Path(sys.argv[1])) for name in sys.argv[2:]}))
