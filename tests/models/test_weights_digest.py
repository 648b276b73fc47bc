"""Weights and configuration of two savings, as a kill between two renames leaves them, are refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import locret
from locret.models.merger import Merger
from tests.conftest import tiny_llama


def heads(seed: int) -> Any:
    config = tiny_llama().config
    torch.manual_seed(seed)
    return locret.RetainingHeads.from_config(config, width=16)


def merger(seed: int) -> Any:
    made = Merger.from_config(tiny_llama().config)
    torch.manual_seed(seed)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter)
    return made


KINDS = pytest.mark.parametrize(("make", "name"), [(heads, "heads"), (merger, "merger")])
Make = Callable[[int], Any]


def forget_digest(folder: Path, name: str) -> None:
    """Make the configuration one of an earlier version."""
    told = json.loads((folder / f"{name}.json").read_text())
    del told["weights_sha256"]
    (folder / f"{name}.json").write_text(json.dumps(told))


@KINDS
@pytest.mark.parametrize("kept", ["safetensors", "json"])
def test_files_of_two_savings_are_refused(tmp_path: Path, make: Make, name: str, kept: str) -> None:
    make(1).save_pretrained(tmp_path)
    before = (tmp_path / f"{name}.{kept}").read_bytes()
    make(2).save_pretrained(tmp_path)
    type(make(2)).from_pretrained(tmp_path)
    (tmp_path / f"{name}.{kept}").write_bytes(before)
    with pytest.raises(locret.LocretError, match=f"the weights beside .*{name}.json are not those"):
        type(make(2)).from_pretrained(tmp_path)


@KINDS
@pytest.mark.parametrize("earlier", [False, True], ids=["of this version", "of an earlier one"])
def test_a_kill_between_the_two_renames_is_seen(
    tmp_path: Path, make: Make, name: str, earlier: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(1).save_pretrained(tmp_path)
    if earlier:
        forget_digest(tmp_path, name)
    renamed = []

    def replace(path: Path, to: Path) -> None:
        if renamed:
            raise KeyboardInterrupt
        renamed.append(to)
        path.rename(to)

    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises(KeyboardInterrupt):
        make(2).save_pretrained(tmp_path)
    assert len(renamed) == 1
    with pytest.raises(locret.LocretError, match="are not those that were saved with it"):
        type(make(2)).from_pretrained(tmp_path)


@KINDS
def test_files_of_earlier_versions_load(tmp_path: Path, make: Make, name: str) -> None:
    make(1).save_pretrained(tmp_path)
    forget_digest(tmp_path, name)
    loaded = type(make(1)).from_pretrained(tmp_path)
    expected = make(1).state_dict()
    assert all(torch.equal(tensor, expected[key]) for key, tensor in loaded.state_dict().items())


@KINDS
def test_the_same_weights_are_the_same_bytes(tmp_path: Path, make: Make, name: str) -> None:
    for folder in ("a", "b"):
        make(1).save_pretrained(tmp_path / folder)
    for ending in ("safetensors", "json"):
        assert (tmp_path / "a" / f"{name}.{ending}").read_bytes() == (tmp_path / "b" / f"{name}.{ending}").read_bytes()
