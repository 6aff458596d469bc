"""The process of a script: how it is started, how it ends, and what is read from it."""

import math
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from starting import write

from nanfix.records.source_changes import ArgumentChange, CallChange
from nanfix.report.fix_file import RunRecord
from nanfix.scripts._job import Job, KnownFix
from nanfix.scripts._process import result_of
from nanfix.scripts.parent import repair_script
from nanfix.search.workers.pool import Workers


def test_no_fit_call_is_said():
    result = repair_script(write("idle.py", "pass"), out=Path("fix.json"))
    assert (result.code, result.exit_code, result.written) == (2, 0, None)
    assert "No call of model.fit was seen" in result.notes[0]


def test_a_killed_script_passes_its_signal_on():
    result = repair_script(write("killed.py", "import os\nos.kill(os.getpid(), 9)"))
    assert result.code == 128 + signal.SIGKILL


@pytest.fixture
def interrupts():
    """What runs in the background ignores an interrupt, and so does what it starts."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_interrupting_nanfix_interrupts_the_script(interrupts):
    write("slow.py", "import time\nprint('ready', flush=True)\ntime.sleep(60)")
    command = [sys.executable, "-m", "nanfix.cli.app", "repair", "slow.py"]
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, text=True, **pipes) as process:
        assert process.stdout and process.stdout.readline() == "ready\n"
        begun = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 130 and time.monotonic() - begun < 30
    assert "KeyboardInterrupt" in errors and "nothing was written" in errors


def fit_event(call, source, counts):
    record = RunRecord.model_validate(
        {"call": call, "outcome": "REPAIRED", "edits": [], "source": source}
    )
    told = {"finite": True, "text": "", "history": {}, "files": {"train.py": "0" * 64}}
    return {
        "kind": "fit",
        "call": call,
        "model": "net",
        "record": record.model_dump_json(),
        "counts": counts,
        **told,
    }


def test_what_a_call_makes_is_counted_to_the_end_of_the_script():
    place = {"file": "train.py", "line": 3, "column": 0, "end_line": 3, "end_column": 9}
    elsewhere = {**place, "line": 5, "end_line": 5}
    dense = ArgumentChange(
        target={"place": place, "callee": "Dense"}, name="activation", value="'tanh'"
    )
    net = CallChange(
        file="train.py", line=9, target={"place": place, "callee": "Net"}, outputs=("2.0", "0.0")
    )
    last = [(place, "Dense", 3), (elsewhere, "Dense", 1), (place, "Net", 1), (elsewhere, "Net", 1)]
    result = result_of(
        0, [fit_event(0, [dense, net], [(place, "Dense", 1)]), fit_event(1, [], last)]
    )
    first = result.calls[0]
    # One call of a class, wherever its models are made.
    assert [change.target.made for change in first.record.source] == [3, 2]
    assert first.files == {"train.py": "0" * 64}


def test_a_job_arrives_as_it_was_sent():
    """Infinity and NaN too, wherever a fix has them."""
    known = KnownFix(edits=[{"strategy": "a", "params": {"limit": math.inf, "rows": [1, 2.5]}}])
    budget = {"trials": 3, "seconds": 1e-300}
    job = Job(mode="run", fixes={2: known}, budget=budget, workers=Workers(2, port=7))
    assert Job.model_validate_json(job.model_dump_json()) == job
    assert type(Job.model_validate_json(job.model_dump_json()).budget["trials"]) is int
