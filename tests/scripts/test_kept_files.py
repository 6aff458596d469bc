"""What a process writes over is put back, whatever it writes with."""

import json
import subprocess
import sys
from pathlib import Path

from nanfix.scripts._kept_files import put_back

START = """
import os, sys
from pathlib import Path
from nanfix.scripts._kept_files import KeptFiles

kept = KeptFiles(Path("kept"), [Path("own")], lambda reason: os._exit(9))
kept.watch()
"""
WRITING = {
    "over": "Path('old.txt').write_text('new')",
    "behind": "open('old.txt', 'a').write('more')",
    "by its descriptor": "os.write(os.open('old.txt', os.O_WRONLY | os.O_TRUNC), b'new')",
    "by renaming": "Path('made.txt').write_text('new'); os.replace('made.txt', 'old.txt')",
    "away": "os.remove('old.txt')",
    "another": "Path('made/there').mkdir(parents=True); Path('made/there/a').write_text('new')",
    "an array": "import numpy as np; np.save('a.npy', np.zeros(3)); np.save('a.npy', np.ones(3))",
    "a file of h5py": (
        "import h5py; kept.watch_h5py(h5py)\n"
        "h5py.File('old.h5', 'w').close(); h5py.File('made.h5', mode='w').close()"
    ),
    "a folder": "import shutil; shutil.rmtree('folder')",
    "in a process of its own": (
        "n = os.fork()\nif n: os.waitpid(n, 0)\n"
        "else: Path('old.txt').write_text('new'); os._exit(0)"
    ),
    "a database": "import sqlite3; sqlite3.connect('d.db').execute('create table t (a)')",
}


def state(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


def test_what_a_process_writes_is_as_it_was_before(folder):
    lines = [START]
    for number, way in enumerate(WRITING.values()):
        home = folder / "ways" / str(number)
        (home / "folder").mkdir(parents=True)
        for name in ("old.txt", "old.h5", "folder/inside.txt"):
            (home / name).write_text("old")
        lines += [f"os.chdir({str(home)!r})", way]
    before = [state(folder / "ways" / str(number)) for number in range(len(WRITING))]
    subprocess.run([sys.executable, "-c", "\n".join(lines)], check=True)
    for number, way in enumerate(WRITING):
        assert state(folder / "ways" / str(number)) != before[number], way
    put_back(Path("kept"))
    for number, way in enumerate(WRITING):
        assert state(folder / "ways" / str(number)) == before[number], way


def test_what_others_write_meanwhile_and_what_is_ones_own_stays(folder):
    Path("read.txt").write_text("old")
    Path("own").mkdir()
    body = "open('read.txt').read(); open('own/a', 'w').write('mine'); Path('log').touch()"
    subprocess.run([sys.executable, "-c", START + body], check=True)
    Path("read.txt").write_text("written by another")
    put_back(Path("kept"))
    assert Path("read.txt").read_text() == "written by another"
    assert Path("own/a").read_text() == "mine" and not Path("log").exists()
    paths = [
        json.loads(line)["path"] for line in Path("kept/journal.jsonl").read_text().splitlines()
    ]
    assert paths == [str(folder / "log")]
