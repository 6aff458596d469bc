"""The example package: installed by pip, found by entry point, searched and replayed like what is built in."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LIST = "import nanfix_use_lion; print(nanfix_use_lion.__file__); from nanfix.cli.app import main; main()"
REPAIR = "test_repairs_adam_in_half_precision_and_the_fix_repairs_a_fresh_model"  # nanfix.fit, fix.json, nanfix.apply


@pytest.fixture(scope="module")
def example(tmp_path_factory):
    """A copy of the package, since building leaves files in its folder, and the folder that it is installed into."""
    source, installed = tmp_path_factory.mktemp("example") / "custom_strategy", tmp_path_factory.mktemp("installed")
    leftovers = shutil.ignore_patterns("build", "*.egg-info", "__pycache__", ".*")
    shutil.copytree(ROOT / "examples" / "custom_strategy", source, ignore=leftovers)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--target", str(installed), str(source)], check=True)
    return source, installed


def run(cwd, path, *arguments):
    """Run Python in the folder `cwd` with `path` to import from; return what it printed."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path))}
    done = subprocess.run([sys.executable, *arguments], cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_is_found_by_its_entry_point(example, tmp_path):
    _, installed = example
    module, *listed = run(tmp_path, [installed], "-c", LIST, "strategies").splitlines()
    assert Path(module).parent == installed
    assert any(line.startswith("use-lion\t2 optimizer\toptimizer constant\t") for line in listed), listed


def test_its_own_tests_pass_where_it_is_installed(example):
    source, installed = example
    (source / "nanfix_use_lion.py").unlink()  # to be imported from where it was installed
    told = run(source, [installed], "-m", "pytest", "-v")
    assert f"{REPAIR} PASSED" in told and "skipped" not in told, told
