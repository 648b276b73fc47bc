"""Weights and configuration of two savings, as a kill between two renames leaves them, are refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import locret
from locret.models.merger import Merger
from tests.conftest import tiny_llama


def heads(seed: int) -> Any:
    torch.manual_seed(seed)
    return locret.RetainingHeads.from_config(tiny_llama().config, width=16)


def merger(seed: int) -> Any:
    made = Merger.from_config(tiny_llama().config)
    torch.manual_seed(seed)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter)
    return made


KINDS = pytest.mark.parametrize(("make", "name"), [(heads, "heads"), (merger, "merger")])
Make = Callable[[int], Any]


def strip_pair(folder: Path, name: str) -> None:
    """Make the files those of an earlier version."""
    weights, config = folder / f"{name}.safetensors", folder / f"{name}.json"
    save_file(load_file(weights), weights, metadata={"format": "pt"})
    config.write_text(
        json.dumps({key: value for key, value in json.loads(config.read_text()).items() if key != "pair"})
    )


@KINDS
@pytest.mark.parametrize("old", [False, True], ids=["of this version", "of an earlier one"])
@pytest.mark.parametrize("kept", ["safetensors", "json"])
def test_files_of_two_savings_are_refused(tmp_path: Path, make: Make, name: str, old: bool, kept: str) -> None:
    make(1).save_pretrained(tmp_path)
    if old:
        strip_pair(tmp_path, name)
    before = (tmp_path / f"{name}.{kept}").read_bytes()
    make(2).save_pretrained(tmp_path)
    type(make(2)).from_pretrained(tmp_path)
    (tmp_path / f"{name}.{kept}").write_bytes(before)
    with pytest.raises(locret.LocretError, match=f"{name}.safetensors and {name}.json were not saved together"):
        type(make(2)).from_pretrained(tmp_path)


@KINDS
def test_files_of_earlier_versions_load(tmp_path: Path, make: Make, name: str) -> None:
    make(1).save_pretrained(tmp_path)
    strip_pair(tmp_path, name)
    loaded = type(make(1)).from_pretrained(tmp_path)
    expected = make(1).state_dict()
    assert all(torch.equal(tensor, expected[key]) for key, tensor in loaded.state_dict().items())


@KINDS
def test_the_same_weights_are_the_same_bytes(tmp_path: Path, make: Make, name: str) -> None:
    for folder in ("a", "b"):
        make(1).save_pretrained(tmp_path / folder)
    for ending in ("safetensors", "json"):
        assert (tmp_path / "a" / f"{name}.{ending}").read_bytes() == (tmp_path / "b" / f"{name}.{ending}").read_bytes()
