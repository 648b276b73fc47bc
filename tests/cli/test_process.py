"""Streams and signals of the command's own process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

LOCRET = [sys.executable, "-m", "locret.cli.app"]
RULER = [*LOCRET, "ruler", "--task", "niah_single_1", "--length", "600", "--samples", "2"]
FULL = Path("/dev/full")
SHOWN = """
from locret.cli.process import prepare_streams
prepare_streams()
print("caf\\u00e9 \\U0001f600 \\udce9 end", flush=True)
"""


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "HF_HUB_OFFLINE": "1", **more}


@pytest.mark.parametrize(("encoding", "expected"), [("ascii", b"caf? ? ? end\n"), ("cp1252", b"caf\xe9 ? ? end\n")])
def test_what_stdout_cannot_show_is_replaced(encoding: str, expected: bytes) -> None:
    command = [sys.executable, "-c", SHOWN]
    done = subprocess.run(command, capture_output=True, env=environment(PYTHONIOENCODING=encoding), check=True)
    assert done.stdout == expected


def test_the_table_of_a_plan_is_there_in_ascii_and_json_is_whole() -> None:
    for options in ([], ["--json"]):
        command = [*LOCRET, "plan", "--memory", "8GB", *options]
        done = subprocess.run(command, capture_output=True, env=environment(PYTHONIOENCODING="ascii"))
        assert done.returncode == 0, done.stderr
        assert b"?" not in done.stdout
    assert json.loads(done.stdout)["fits"]


@pytest.mark.skipif(not FULL.exists(), reason="there is no /dev/full here")
@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_stdout_that_takes_nothing_is_told_in_one_line(options: list[str]) -> None:
    with FULL.open("w") as full:
        command = [*LOCRET, "plan", "--memory", "8GB", *options]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, env=environment())
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert line.startswith("locret: could not write to stdout: No space left on device: free some space")


def test_streams_that_are_closed_swallow_what_they_would_show() -> None:
    command = f"{sys.executable} -m locret.cli.app plan --memory 8GB --json"
    done = subprocess.run(f"{command} 2>&-", shell=True, stdout=subprocess.PIPE, env=environment(), check=True)
    assert json.loads(done.stdout)["fits"]
    assert subprocess.run(f"{command} >&-", shell=True, env=environment()).returncode == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_that_ends_the_process_leaves_nothing_half_written(tmp_path: Path, number: signal.Signals) -> None:
    command = [*RULER[:-1], "1000000", "--out", str(tmp_path / "out.jsonl")]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment())
    while process.poll() is None and not list(tmp_path.glob(".*/out.jsonl")):
        time.sleep(0.02)
    process.send_signal(number)
    _, told = process.communicate(timeout=300)
    assert process.returncode == 128 + number, told
    assert list(tmp_path.iterdir()) == []


QUESTIONS = ["--samples", "4", "--tasks", "magic", "--keys", "4", "--lengths", "600", "--max-new-tokens", "4"]
CELLS = ["--policies", "streaming_llm", "--budgets", ",".join(map(str, range(64, 128)))]
BROKEN_OFF = {
    "ruler": ([*RULER[3:-1], "1000000", "--out", "OUT/made"], "OUT/.*", "nothing was saved, the same command begins"),
    "eval": (
        ["eval", *QUESTIONS, *CELLS, "--out", "OUT"],
        "OUT/results.jsonl",
        "results and answers so far are in OUT",
    ),
    "train": (
        ["train", "--data", "DATA", "--steps", "9999", "--width", "8", "--save-every", "1", "--out", "OUT"],
        "OUT/checkpoints/step-00000002",
        "is saved in OUT: the same command with --resume goes on from there",
    ),
}


@pytest.mark.parametrize("name", BROKEN_OFF)
def test_ctrl_c_ends_in_one_line_that_says_what_is_left(tmp_path: Path, name: str) -> None:
    options, made, words = BROKEN_OFF[name]
    out, data = tmp_path / "out", tmp_path / "data.jsonl"
    out.mkdir()
    data.write_text(json.dumps({"input_ids": [*range(5, 60)], "answer_spans": [[50, 55]]}) + "\n")
    given = [option.replace("OUT", str(out)).replace("DATA", str(data)) for option in options]
    process = subprocess.Popen([*LOCRET[:3], *given], stderr=subprocess.PIPE, text=True, env=environment())
    while process.poll() is None and not list(tmp_path.glob(made.replace("OUT", "out"))):
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=300)
    assert process.returncode == 130, told
    last = told.splitlines()[-1]
    assert last.startswith("locret: broken off: ") and words.replace("OUT", str(out)) in last
    assert "Traceback" not in told


def test_a_device_is_refused_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(os.devnull)
    done = subprocess.run(
        [*RULER, "--out", str(tmp_path / "link")], stderr=subprocess.PIPE, text=True, env=environment()
    )
    assert done.returncode == 1
    assert "is a device, a pipe or a socket" in done.stderr
    assert (tmp_path / "link").is_symlink()
