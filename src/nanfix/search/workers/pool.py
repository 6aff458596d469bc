"""Let other processes run the trials of a search, led by keras-tuner's own chief over a
local connection.
"""

import logging
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nanfix.records.errors import InputError, NanfixError

if TYPE_CHECKING:
    import grpc
    import keras_tuner

log = logging.getLogger("nanfix")

RESTARTS = 3  # of one worker, after which the search is given up
TAIL = 20  # lines of a dead worker's output that are shown
LOOPBACK = ("127.0.0.1", "localhost", "::1")
OPEN = (
    "The search is led on {host}: keras-tuner's connection has no authentication, so whoever "
    "reaches this port can steer the search. Use it in a network that you trust."
)


@dataclass(frozen=True)
class Workers:
    """How many processes run the trials of a search, and where they reach the one that leads it.

    `port` 0 takes any that is free.

    Raises:
        InputError: the numbers make no sense.
    """

    count: int = 1
    host: str = "127.0.0.1"
    port: int = 0

    def __post_init__(self):
        if self.count < 1 or not 0 <= self.port < 1 << 16:
            raise InputError(
                "A search needs at least one worker and a port. Expected: count >= 1, 0 <= port <= "
                f"65535. Received: count={self.count}, port={self.port}."
            )


ALONE = Workers()


class WorkerPool:
    """Worker processes for one search, each started with the folder of its input. One
    that dies is started again.
    """

    def __init__(self, workers: Workers, folder: Path):
        self._workers, self._folder = workers, folder

    def run(self, oracle: "keras_tuner.Oracle") -> None:
        """Serve the oracle until every worker has been told that there is no more to do.

        Raises:
            NanfixError: a worker died again and again, or the port is taken.
        """
        import grpc

        from nanfix.private import tuner

        if self._workers.host not in LOOPBACK:
            log.warning(OPEN.format(host=self._workers.host))
        # One at a time: an oracle is not for threads.
        server = grpc.server(ThreadPoolExecutor(max_workers=1))
        tuner.serve(oracle, server)
        port = self._bound(server)
        server.start()
        running = {
            f"worker-{number}": self._started(f"worker-{number}", port)
            for number in range(self._workers.count)
        }
        restarts = dict.fromkeys(running, 0)
        try:
            while running:
                time.sleep(0.05)
                for name, process in list(running.items()):
                    code = process.poll()
                    if code is None:
                        continue
                    del running[name]
                    if code == 0:
                        continue
                    restarts[name] += 1
                    if restarts[name] > RESTARTS:
                        raise NanfixError(self._death(name, code))
                    log.warning("%s ended with exit code %d and is started again.", name, code)
                    running[name] = self._started(name, port)
        finally:
            for process in running.values():
                process.kill()
                process.wait()
            server.stop(grace=None).wait()

    def _bound(self, server: "grpc.Server") -> int:
        address = f"{self._workers.host}:{self._workers.port}"
        try:
            return server.add_insecure_port(address)
        except RuntimeError as error:
            raise NanfixError(
                f"The search cannot be led on {address}. Expected: an address of this machine and "
                f"a free port. Received: {error}. Choose another, or port 0 for any that is free."
            ) from error

    def _started(self, name: str, port: int) -> "subprocess.Popen[bytes]":
        environment = {
            **os.environ,
            "KERASTUNER_TUNER_ID": name,
            "KERASTUNER_ORACLE_IP": self._workers.host,
            "KERASTUNER_ORACLE_PORT": str(port),
            "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry),
        }
        with self._output(name).open("ab") as output:
            command = [sys.executable, "-m", "nanfix.search.workers.worker", str(self._folder)]
            return subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )

    def _output(self, name: str) -> Path:
        return self._folder / f"{name}.log"

    def _death(self, name: str, code: int) -> str:
        tail = self._output(name).read_text(errors="replace").splitlines()[-TAIL:]
        return (
            f"{name} of the search died {RESTARTS + 1} times, last with exit code {code}. Its "
            "output ends with:\n"
        ) + "\n".join(tail)
