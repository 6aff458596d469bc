"""A worker process of a search: `python -m nanfix.worker FOLDER` runs trials until the process that leads has no more."""

import os
import sys
import threading
import time
from pathlib import Path

from nanfix.job import taken_up
from nanfix.search import work

PARENT_SECONDS = 0.5  # how often a worker looks whether the process that leads still lives


def main() -> None:
    """Take up the job in the folder and run its trials."""
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
