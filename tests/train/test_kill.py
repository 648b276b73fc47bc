"""`locret train` is killed by SIGKILL at random moments and goes on as if nothing had happened."""

from __future__ import annotations

import json
import random
import subprocess
import time
from pathlib import Path

import pytest

from tests.train.commands import PYTHON, environment, train_arguments

STEPS, KILLS = 150, 2


def start(arguments: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        PYTHON + arguments, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def finish(process: subprocess.Popen[str]) -> dict[str, object]:
    printed, complaints = process.communicate(timeout=300)
    assert process.returncode == 0, complaints
    summary: dict[str, object] = json.loads(printed)
    return summary


def kill_at(process: subprocess.Popen[str], log: Path, step: int) -> None:
    """Kill a run once its log has reached a step, at whatever it is doing then."""
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        if log.exists() and log.read_bytes().count(b"\n") >= step:
            break
        time.sleep(random.uniform(0, 0.005))
    assert process.poll() is None, "the run ended before it could be killed"
    process.kill()
    process.communicate()


@pytest.mark.slow
def test_a_killed_run_ends_with_the_same_weights(model_folder: Path, data: Path, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    undisturbed = start(train_arguments(model_folder, data, whole, STEPS, "--save-every", "10"))
    arguments = train_arguments(model_folder, data, parts, STEPS, "--save-every", "10", "--resume")
    steps = sorted(random.sample(range(1, STEPS - 40), KILLS))
    for step in steps:
        kill_at(start(arguments), parts / "log.jsonl", step)
        assert not (parts / "heads.json").exists()
    summary, expected = finish(start(arguments)), finish(undisturbed)
    for name in ("heads.safetensors", "heads.json", "log.jsonl"):
        assert (parts / name).read_bytes() == (whole / name).read_bytes(), (name, steps)
    assert {**summary, "seconds": 0, "out": ""} == {**expected, "seconds": 0, "out": ""}
