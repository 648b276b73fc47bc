"""`python -m benchmarks.gpu` tried out on the CPU with tiny models: that its checks run, never what they measure."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

import locret
from benchmarks.gpu import attention as gpu_attention
from benchmarks.gpu.__main__ import main
from benchmarks.gpu.attention import naive, visible
from benchmarks.gpu.checks import checks
from benchmarks.gpu.device import file_name
from benchmarks.gpu.report import NONE, document
from benchmarks.gpu.run import chosen, run
from benchmarks.gpu.setting import TINY_BUDGET, Setting
from locret.attention.lse import naive_attention_with_lse
from locret.bench.roofline import Machine

SETTING = Setting(torch.device("cpu"), Machine(1e12, 1e11), tiny=True)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("locret.bench.roofline.MATRIX", {"cpu": 64})
    monkeypatch.setattr("locret.bench.roofline.BUFFER", {"cpu": 1 << 16})


def test_every_check_runs_and_is_reported(tmp_path: Path) -> None:
    out = tmp_path / "gpu" / "here.json"
    assert main(["--device", "cpu", "--tiny", "--out", str(out)]) == 0
    result = json.loads(out.read_text(encoding="utf-8"))
    assert [row["check"] for row in result["checks"]] == list(checks())
    assert all(row["passed"] for row in result["checks"])
    assert result["setting"]["tiny"] and result["device"]["name"] and result["device"]["torch"]
    page = document(out.parent)
    assert page.count("| passed |") == len(checks())
    assert "these figures only say that the checks run" in page
    by_name = {row["check"]: row for row in result["checks"]}
    ways = by_name["decode/llama-3.1-8b"]["ways"]
    assert [way["same_tokens"] for way in ways] == [6, 6]
    shares = [own["name"] for own in by_name["speed/phi-3-mini-128k"]["contestants"]]
    assert shares == ["limit", "locret", "full"]


def test_a_check_that_fails_is_recorded_and_the_others_go_on() -> None:
    def broken(setting: Setting) -> dict[str, Any]:
        raise RuntimeError("first | line\nsecond line")

    said: list[str] = []
    several = {"capped/a": broken, "capped/b": lambda setting: {"passed": False}, "capped/c": lambda setting: {"x": 1}}
    rows = list(run(several, SETTING, said.append))
    assert [row["passed"] for row in rows] == [False, False, True]
    assert rows[0]["error"] == "RuntimeError: first | line"
    assert rows[2]["x"] == 1
    assert "capped/a: FAILED RuntimeError: first | line" in said


def test_one_failure_is_the_exit_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.gpu.logits.FP32", -1.0)
    out = tmp_path / "here.json"
    assert main(["--device", "cpu", "--tiny", "--only", "logits/tiny, fp32, true", "--out", str(out)]) == 1
    (row,) = json.loads(out.read_text(encoding="utf-8"))["checks"]
    assert not row["passed"] and row["relative_error"] == 0.0
    assert "**failed**" in document(tmp_path)


def test_results_are_written_as_they_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, wanted = tmp_path / "here.json", ["logits/tiny, fp32, true", "logits/tiny, fp32, compact"]

    def gone(setting: Setting, positions: str) -> dict[str, Any]:
        if positions == "compact":
            raise KeyboardInterrupt
        return {}

    monkeypatch.setattr("benchmarks.gpu.checks.tiny", gone)
    with pytest.raises(KeyboardInterrupt):
        main(["--device", "cpu", "--tiny", "--only", *wanted, "--out", str(out)])
    assert [row["check"] for row in json.loads(out.read_text(encoding="utf-8"))["checks"]] == wanted[:1]


def test_without_an_accelerator_nothing_pretends(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main(["--out", str(tmp_path / "none.json")]) == 0
    assert capsys.readouterr().out == "benchmarks.gpu: no accelerator found, nothing was run\n"
    assert not list(tmp_path.iterdir())
    assert document(tmp_path) == document(tmp_path / "missing") == NONE


@pytest.mark.parametrize("arguments", [["--device", "cpu"], ["--device", "cpu", "--tiny"]])
def test_a_cpu_gets_no_result_of_a_device(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(arguments)
    assert "give --out FILE" in capsys.readouterr().err


def test_unknown_checks_are_refused() -> None:
    with pytest.raises(locret.LocretError, match="no check begins with 'logit/'"):
        chosen(checks(), ["logit/"])
    assert list(chosen(checks(), ["decode"])) == ["decode/llama-3.1-8b", "decode/phi-3-mini-128k"]


def test_the_reference_of_attention() -> None:
    torch.manual_seed(0)
    query, key, value = torch.randn(1, 4, 5, 8), torch.randn(1, 2, 5, 8), torch.randn(1, 2, 5, 8)
    expected, _ = naive_attention_with_lse(query, key, value, 8**-0.5, causal=True)
    torch.testing.assert_close(naive(query, key, value), expected[:, :2])
    assert visible(2, 3, torch.device("cpu")).int().tolist() == [[1, 1, 1, 1, 0], [1, 1, 1, 1, 1]]


def test_a_wrong_attention_is_never_the_fastest(monkeypatch: pytest.MonkeyPatch) -> None:
    def top_left(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        return scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=True)

    def absent() -> Any:
        raise ImportError("not installed")

    right = gpu_attention.alternatives

    def wrong(setting: Setting, new: int, stored: int) -> Any:
        yield from (("top left", lambda: top_left), ("absent", absent))
        yield from (each for each in right(setting, new, stored) if each[0] == "split")

    monkeypatch.setattr(gpu_attention, "alternatives", wrong)
    row = gpu_attention.attention(replace(SETTING, budget=TINY_BUDGET), "llama-3.1-8b")
    assert [own.get("right") for own in row["alternatives"]] == [False, None, True]
    assert row["alternatives"][1]["error"] == "ImportError: not installed"
    assert row["passed"] and row["best"] == "split"


def test_file_names() -> None:
    assert file_name("NVIDIA H100 80GB HBM3") == "nvidia-h100-80gb-hbm3.json"
