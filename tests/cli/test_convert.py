from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import locret
from tests.cli.conftest import Run, error_line, only_json
from tests.conftest import tiny_llama
from tests.models.published import heads_alone, save_sharded, save_tensors, tiny_heads, whole_model
from tests.oracle import check_against, load_oracle


@pytest.fixture
def backbone(tmp_path: Path) -> Path:
    folder = tmp_path / "backbone"
    tiny_llama().config.save_pretrained(folder)
    return folder


@pytest.fixture
def published(tmp_path: Path) -> Path:
    return save_tensors(heads_alone(), tmp_path / "published.bin")


def test_the_engine_reproduces_the_original_with_converted_heads(run: Run, shared_data: Path, tmp_path: Path) -> None:
    oracle = load_oracle(shared_data)
    oracle.model.config.save_pretrained(tmp_path / "backbone")
    to = tmp_path / "heads"
    result = only_json(run("convert", oracle.path, to, "--model", tmp_path / "backbone" / "config.json", "--json"))
    assert result == {
        "layers": 3, "kv_heads": 8, "width": 1024, "parameters": 3 * 1024 * (256 + 8),
        "dtype": "float32", "fingerprint": True, "out": str(to),
    }  # fmt: skip
    check_against(oracle, locret.RetainingHeads.from_pretrained(to), "split")


def test_there_and_back_for_people(run: Run, published: Path, backbone: Path, tmp_path: Path) -> None:
    done = run("convert", published, tmp_path / "new" / "heads", "--model", backbone)
    assert done.exit_code == 0
    expected = "3 layers, 2 KV heads, width 16, 3936 parameters of float32: the heads are in"
    assert " ".join(done.stdout.split()).startswith(expected)
    back = tmp_path / "back.safetensors"
    result = only_json(run("convert", tmp_path / "new" / "heads", back, "--to-original", "--json"))
    assert (result["layers"], result["kv_heads"], result["width"], result["parameters"]) == (3, 2, 16, 3936)
    tensors = load_file(back)
    assert tensors.keys() == heads_alone().keys()
    assert all(torch.equal(tensor, heads_alone()[name]) for name, tensor in tensors.items())
    only_json(run("convert", tmp_path / "new" / "heads", tmp_path / "back.bin", "--to-original", "--json"))
    assert torch.load(tmp_path / "back.bin", weights_only=True).keys() == heads_alone().keys()


def test_a_whole_model_folder_needs_no_model(run: Run, tmp_path: Path) -> None:
    model, folder = tiny_llama(), tmp_path / "whole"
    model.config.save_pretrained(folder)
    shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    save_sharded(whole_model(model), folder, shards, "model.safetensors")
    assert only_json(run("convert", folder, folder / "heads", "--json"))["fingerprint"] is True
    locret.RetainingHeads.from_pretrained(folder / "heads").check_fits(model)


def test_heads_may_be_written_over_heads(run: Run, published: Path, backbone: Path, tmp_path: Path) -> None:
    to = tmp_path / "heads"
    for _ in range(2):
        only_json(run("convert", published, to, "--model", backbone, "--json"))
        (to / "README.md").touch()
    assert sorted(path.name for path in to.iterdir()) == ["README.md", "heads.json", "heads.safetensors"]


def test_nothing_else_is_overwritten(run: Run, published: Path, backbone: Path, tmp_path: Path) -> None:
    line = error_line(run("convert", published, backbone, "--model", backbone))
    assert f"{backbone} holds config.json, which is no part of retaining heads: choose a new folder" in line
    assert f"{published} is a file" in error_line(run("convert", published, published, "--model", backbone))
    heads = tmp_path / "heads"
    only_json(run("convert", published, heads, "--model", backbone, "--json"))
    assert f"{backbone} is no name for" in error_line(run("convert", heads, backbone, "--to-original"))
    other = save_tensors({"weight": torch.ones(2)}, tmp_path / "other.safetensors")
    assert "no file of retaining heads alone" in error_line(run("convert", heads, other, "--to-original"))
    assert load_file(other).keys() == {"weight"}


@pytest.mark.parametrize("options", [("--json",), ()])
def test_a_failure_leaves_nothing_behind(run: Run, tmp_path: Path, published: Path, options: tuple[str, ...]) -> None:
    tiny_llama(num_hidden_layers=4).config.save_pretrained(tmp_path / "other")
    to = tmp_path / "a" / "b"
    line = error_line(run("convert", published, to, "--model", tmp_path / "other", *options))
    assert "no retaining head for layer 3 (1 are missing), but the llama backbone has 4 layers" in line
    assert not (tmp_path / "a").exists()


def test_no_space_leaves_what_was_there(
    run: Run, published: Path, backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    old = tmp_path / "old"
    tiny_heads(tiny_llama(), seed=6).save_pretrained(old)
    before = {path.name: path.read_bytes() for path in old.iterdir()}
    monkeypatch.setattr(Path, "write_bytes", full)  # heads.json
    for to in (tmp_path / "a" / "b", old):
        line = error_line(run("convert", published, to, "--model", backbone))
        assert "No space left on device: free some space" in line
    assert not (tmp_path / "a").exists()
    assert {path.name: path.read_bytes() for path in old.iterdir()} == before


def test_the_model_is_checked_on_the_way_back_too(run: Run, published: Path, backbone: Path, tmp_path: Path) -> None:
    heads, back = tmp_path / "heads", tmp_path / "back.safetensors"
    only_json(run("convert", published, heads, "--model", backbone, "--json"))
    line = error_line(run("convert", heads, back, "--to-original", "--model", "builtin"))
    assert "these retaining heads are of another model: layers is 3, the model has 4" in line
    assert not back.exists()
    assert run("convert", heads, back, "--to-original", "--model", backbone).exit_code == 0


def test_bad_sources_are_named(run: Run, published: Path, backbone: Path, tmp_path: Path) -> None:
    to = tmp_path / "heads"
    assert "name the backbone of these heads (--model)" in error_line(run("convert", published, to))
    line = error_line(run("convert", tmp_path / "no" / "such" / "file.bin", to, "--model", backbone))
    assert "is neither a file nor a folder here" in line
    assert "no configuration of a backbone" in error_line(run("convert", published, to, "--model", tmp_path / "none"))
    line = error_line(run("convert", published, to.with_suffix(".safetensors"), "--to-original"))
    assert f"{published} is a file: give the folder with heads.json" in line
    only_json(run("convert", published, to, "--model", backbone, "--json"))
    assert "already, load them as they are" in error_line(run("convert", to, tmp_path / "again", "--model", backbone))


@pytest.mark.parametrize("arguments", [(), ("only-one",), ("a", "b", "c"), ("a", "b", "--no-such-flag")])
def test_bad_usage_exits_with_2(run: Run, arguments: tuple[str, ...]) -> None:
    result = run("convert", *arguments)
    assert result.exit_code == 2
    assert result.stdout == ""


def test_debug_shows_the_error_itself(run: Run, published: Path, tmp_path: Path) -> None:
    result = run("convert", published, tmp_path / "heads", "--debug")
    assert isinstance(result.exception, locret.LocretError)
