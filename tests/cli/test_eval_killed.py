"""A run that is killed at any moment and started again leaves the files of one that was never stopped, but for times.

Fields whose names hold "seconds" are measured anew and excluded; everything else is equal to the byte.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Run
from tests.eval.models import TEXT

PATIENCE = 300  # seconds


def answers(out: Path) -> int:
    return sum(path.read_bytes().count(b"\n") for path in out.glob("predictions/*/*.jsonl"))


def kill_after(count: int, command: list[str], out: Path) -> None:
    """Start a run and kill it when at least so many answers are on the disk."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "locret.cli.app", *command], env=environment, stderr=subprocess.DEVNULL
    )
    until = time.monotonic() + PATIENCE
    try:
        while answers(out) < count and process.poll() is None and time.monotonic() < until:
            time.sleep(0.005)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert process.returncode == -signal.SIGKILL


@pytest.mark.slow
def test_killed_and_started_again(run: Run, model_folder: Path, tmp_path: Path) -> None:
    filler = tmp_path / "filler.txt"
    filler.write_text(TEXT)
    samples = 12
    settings = ("--policies", "random,full", "--budgets", 64, "--samples", samples, "--keys", 4, "--lengths", 600)
    options = ("--tasks", "magic,kv_retrieval", "--max-new-tokens", 8, *settings)
    command = [str(one) for one in ("eval", "--model", model_folder, "--filler", filler, *options)]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert run(*command, "--out", whole).exit_code == 0
    kill_after(5, [*command, "--out", str(killed)], killed)
    survived = answers(killed)
    assert 5 <= survived < 4 * samples
    last = max(killed.glob("predictions/*/*.jsonl"), key=lambda path: path.stat().st_mtime_ns)
    last.write_bytes(last.read_bytes() + b'{"uid": "0-')  # killed in the middle of a line
    assert run(*command, "--out", killed).exit_code == 0
    got = timeless(killed)
    assert got == timeless(whole)
    assert len(got) == 5  # the rows, and the predictions of four cells


def timeless(out: Path) -> dict[str, str]:
    """Every file as text, with zero for every time."""

    def zeroed(line: str) -> dict[str, Any]:
        return {name: 0 if "seconds" in name else value for name, value in json.loads(line).items()}

    return {
        str(path.relative_to(out)): "\n".join(
            json.dumps(zeroed(line), ensure_ascii=False) for line in path.read_text().splitlines()
        )
        for path in out.rglob("*.jsonl")
    }
