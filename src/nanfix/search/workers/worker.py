"""A worker process of a search: `python -m nanfix.search.workers.worker FOLDER` runs trials until
its leader has no more.
"""

import os
import sys
import threading
import time
from pathlib import Path

from nanfix.search.search import work
from nanfix.search.workers._worker_input import taken_up

PARENT_SECONDS = 0.5  # how often a worker looks whether the process that leads still lives


def main() -> None:
    """Take up the input in the folder and run its trials."""
    _end_with(os.getppid())
    space, judge, directory = taken_up(Path(sys.argv[1]))
    work(space, judge, directory)


def _end_with(leader: int) -> None:
    """End this process when the one that leads is gone: nobody would take its results."""

    def watch() -> None:
        while os.getppid() == leader:
            time.sleep(PARENT_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    main()
