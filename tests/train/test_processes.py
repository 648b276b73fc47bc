"""`accelerate launch` with two CPU processes against one process at the same global batch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.train.commands import PYTHON, environment, train_arguments

# `--multi_gpu` is accelerate's word for one process after another without MPI; `--device cpu`
# then puts them on the CPU, talking by gloo.
LAUNCH = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu"]
LAUNCH += ["--num_machines", "1", "--num_processes", "2", "--main_process_port", "0"]
LAUNCH += ["--mixed_precision", "no", "--dynamo_backend", "no", "-m"]


@pytest.mark.slow
def test_two_processes_equal_one(model_folder: Path, data: Path, tmp_path: Path) -> None:
    more = ("--batch-size", "4", "--save-every", "5")
    for name, launcher in (("one", PYTHON), ("two", LAUNCH)):
        done = subprocess.run(
            launcher + train_arguments(model_folder, data, tmp_path / name, 12, *more),
            env=environment(),
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["steps"] == 12  # printed once, by the first process
    logs = [
        [json.loads(line) for line in (tmp_path / name / "log.jsonl").read_text().splitlines()]
        for name in ("one", "two")
    ]
    assert len(logs[0]) == len(logs[1]) == 12
    for one, two in zip(*logs, strict=True):
        assert two == pytest.approx(one, rel=1e-5)
    weights = [load_file(tmp_path / name / "heads.safetensors") for name in ("one", "two")]
    for name, tensor in weights[0].items():
        torch.testing.assert_close(weights[1][name], tensor, atol=1e-6, rtol=1e-4)
