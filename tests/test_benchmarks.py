"""Measurements that stand on the inside of the proxy still run."""

import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]


@pytest.mark.skipif(not pathlib.Path("/proc/self/task").exists(), reason="threads are not measured: no /proc")
def test_accounting_is_measured_in_place():
    command = [
        sys.executable,
        "benchmarks/accounting.py",
        "--rounds",
        "3",
        "--requests",
        "32",
        "--interpreted",
    ]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert found.returncode == 0, found.stderr[-2000:]
    assert found.stdout.count("CPU-us") == 6
    assert not found.stderr
