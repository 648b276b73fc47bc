"""The benchmark of units off the device, at lengths that take no time."""

from __future__ import annotations

import pytest

from benchmarks.offloaded import read
from locret.cache import host_blocks


@pytest.fixture(autouse=True)
def host_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_blocks, "HostMemory", host_blocks.HostMemory)  # the benchmark puts another there


@pytest.mark.parametrize("method", ["locret+offloaded", "locret+disk"])
def test_under_a_budget_nothing_on_the_device_grows(method: str) -> None:
    short, long = (read(method, length) for length in (4096, 12288))
    assert long["length"] == 12288
    for what in ("device_kv_bytes", "offloaded_bytes", "device_tensors_peak_bytes"):
        assert 0 < short[what] == long[what]


@pytest.mark.parametrize("method", ["full+disk", "streaming_llm+recall", "infllm"])
def test_what_is_kept_elsewhere_grows_with_the_prompt(method: str) -> None:
    short, long = (read(method, length) for length in (8192, 12288))
    unit = 2 * 2 * 16 * 4  # keys and values of a token in two layers
    assert long["offloaded_bytes"] - short["offloaded_bytes"] == pytest.approx(4096 * unit, rel=0.05)
    assert long["device_kv_bytes"] - short["device_kv_bytes"] < 0.25 * 4096 * unit
