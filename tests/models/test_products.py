"""Products of few columns are the same from either side."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from locret.models import products


@pytest.fixture(params=["vendor_id\t: AuthenticAMD\n", "vendor_id\t: GenuineIntel\n", ""])
def maker(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """A processor of this maker; none is named outside of Linux."""
    file = tmp_path / "cpuinfo"
    if request.param:
        file.write_text(request.param)
    monkeypatch.setattr(products, "CPUINFO", file)
    monkeypatch.setattr(products.platform, "processor", lambda: "Intel64 Family 6 Model 85 Stepping 4, GenuineIntel")
    products.on_amd.cache_clear()
    yield request.param
    products.on_amd.cache_clear()


@pytest.mark.parametrize("shape", [(1, 7, 16), (2, 5, 16), (3, 16), (1, 0, 16)])
@pytest.mark.parametrize("few", [1, 2, 8])
def test_both_sides_are_the_linear_map(maker: str, shape: tuple[int, ...], few: int) -> None:
    assert products.on_amd() is ("AuthenticAMD" in maker)
    generator = torch.Generator().manual_seed(0)
    inner, weight = torch.randn(shape, generator=generator), torch.randn(few, 16, generator=generator)
    expected = torch.tensor([[row @ column for column in weight] for row in inner.reshape(-1, 16)])
    found = products.few_columns(inner, weight)
    torch.testing.assert_close(found, expected.reshape(*shape[:-1], few))


def test_both_sides_have_the_same_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    inner, layer = torch.randn(1, 9, 16, requires_grad=True), nn.Linear(16, 2, bias=False)
    found = []
    for amd in (True, False):
        monkeypatch.setattr(products, "on_amd", lambda amd=amd: amd)
        loss = products.few_columns(inner, layer.weight).square().sum()
        found.append(torch.autograd.grad(loss, (inner, layer.weight)))
    torch.testing.assert_close(found[0], found[1])


def test_windows_names_the_maker_elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(products, "CPUINFO", tmp_path / "none")
    monkeypatch.setattr(products.platform, "processor", lambda: "AMD64 Family 25 Model 33 Stepping 2, AuthenticAMD")
    products.on_amd.cache_clear()
    assert products.on_amd()
    products.on_amd.cache_clear()
