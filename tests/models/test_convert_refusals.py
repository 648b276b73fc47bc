"""What cannot be converted is refused in one line that says what to do."""

from __future__ import annotations

import argparse
import json
import pickle
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import locret
from locret.models.convert import convert_heads
from locret.models.original import export_heads
from tests.conftest import tiny_llama
from tests.models.published import heads_alone, save_sharded, save_tensors, tiny_heads

FC1, FC2 = "model.layers.1.self_attn.fc1.weight", "model.layers.1.self_attn.fc2.weight"


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("backbone")
    tiny_llama().config.save_pretrained(folder)
    return folder


class Planted:
    """Leaves a trace when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.trace,))


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_with_objects_is_refused_and_runs_nothing(backbone: Path, tmp_path: Path, zipped: bool) -> None:
    trace, path = tmp_path / "trace", tmp_path / "heads.bin"
    torch.save(heads_alone() | {"more": Planted(trace)}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(locret.LocretError, match=r"heads\.bin holds Python objects \(.*\), which could run any code"):
        convert_heads(path, backbone)
    assert not trace.exists()


@pytest.mark.parametrize("content", [argparse.Namespace(x=1), torch.nn.Linear(2, 2)])
def test_objects_of_a_trainer_are_refused(backbone: Path, tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "heads.pt")
    with pytest.raises(locret.LocretError, match=r"holds Python objects \((argparse|torch\.nn)"):
        convert_heads(tmp_path / "heads.pt", backbone)


def test_a_plain_pickle_is_refused(backbone: Path, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    (tmp_path / "heads.bin").write_bytes(pickle.dumps({"a": Planted(trace)}, protocol=2))
    with pytest.raises(locret.LocretError, match=r"heads\.bin (holds Python objects|is missing, damaged)"):
        convert_heads(tmp_path / "heads.bin", backbone)
    assert not trace.exists()


@pytest.mark.parametrize(("content", "kind"), [([torch.ones(2)], "list"), (torch.ones(2), "Tensor"), (3, "int")])
def test_other_contents_are_no_state_dict(backbone: Path, tmp_path: Path, content: object, kind: str) -> None:
    torch.save(content, tmp_path / "heads.bin")
    with pytest.raises(locret.LocretError, match=f"holds a {kind}: a state dict"):
        convert_heads(tmp_path / "heads.bin", backbone)


def _old(tensors: dict[str, Tensor], path: Path) -> Path:
    torch.save(tensors, path, _use_new_zipfile_serialization=False)
    return path


@pytest.mark.parametrize(("name", "save"), [("x.safetensors", save_tensors), ("x.bin", save_tensors), ("o.bin", _old)])
def test_truncated_files_are_refused(
    backbone: Path, tmp_path: Path, name: str, save: Callable[[dict[str, Tensor], Path], Path]
) -> None:
    path = save(heads_alone(), tmp_path / name)
    whole = path.read_bytes()
    for length in (0, 1, 7, 100, len(whole) // 2, len(whole) - 200, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(locret.LocretError, match=rf"{name} is missing, damaged"):
            convert_heads(path, backbone)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize(("name", "save"), [("x.safetensors", save_tensors), ("x.bin", save_tensors), ("o.bin", _old)])
def test_damaged_bytes_never_give_another_error(
    backbone: Path, tmp_path: Path, name: str, save: Callable[[dict[str, Tensor], Path], Path]
) -> None:
    path, chance = save(heads_alone(), tmp_path / name), random.Random(0)
    whole = path.read_bytes()
    refused = 0
    for _ in range(60):
        damaged = bytearray(whole)
        for _ in range(4):  # the head of the file, or its end: neither format has checksums over the weights
            place = chance.choice([chance.randrange(1500), len(whole) - 1 - chance.randrange(600)])
            damaged[place] = chance.randrange(256)
        path.write_bytes(damaged)
        try:
            convert_heads(path, backbone)
        except locret.LocretError:
            refused += 1
    assert refused > 20


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_hidden_layers": 4}, r"no retaining head for layer 3 \(1 are missing\), but the llama backbone has 4"),
        ({"num_hidden_layers": 2}, "retaining head for layer 2, but the llama backbone has 2 layers, 0 to 1"),
        ({"num_key_value_heads": 3}, r"fc1\.weight has shape \[16, 80\].*6 query heads, 3 KV heads of 8.*\[16, 96\]"),
        ({"head_dim": 16}, r"fc1\.weight has shape \[16, 80\].*needs \[16, 160\]: name the backbone"),
        ({"num_attention_heads": 4, "num_key_value_heads": 3}, r"fc2\.weight has shape \[2, 16\].*needs \[3, 16\]"),
    ],
)
def test_another_backbone_is_refused(tmp_path: Path, changes: dict[str, int], message: str) -> None:
    tiny_llama(**changes).config.save_pretrained(tmp_path)
    path = save_tensors(heads_alone(), tmp_path / "heads.safetensors")
    with pytest.raises(locret.LocretError, match=message):
        convert_heads(path, tmp_path)


def changed(name: str, change: Callable[[Tensor], Tensor]) -> Callable[[], dict[str, Tensor]]:
    return lambda: {key: change(tensor) if key == name else tensor for key, tensor in heads_alone().items()}


def without(*names: str) -> Callable[[], dict[str, Tensor]]:
    return lambda: {key: tensor for key, tensor in heads_alone().items() if key not in names}


def _holed(value: float) -> Callable[[Tensor], Tensor]:
    return lambda tensor: tensor.index_fill(0, torch.tensor([1]), value)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        (dict, r"holds no retaining heads: tensors with names like model\.layers\.0\.self_attn\.fc1\.weight"),
        (lambda: {"model.norm.weight": torch.ones(3)}, "holds no retaining heads"),
        (without(FC1, FC2), r"no retaining head for layer 1 \(1 are missing\)"),
        (without(FC1), r"has model\.layers\.1\.self_attn\.fc2\.weight but no fc1 for layer 1: fetch"),
        (without(FC2), r"has model\.layers\.1\.self_attn\.fc1\.weight but no fc2 for layer 1: fetch"),
        (
            lambda: heads_alone() | heads_alone("layers.{}.self_attn."),
            "two tensors for one retaining head, .* keep",
        ),
        (changed(FC1, lambda t: t[:-1].clone()), r"fc1\.weight has shape \[15, 80\], but a head of width 16"),
        (changed(FC2, lambda t: t.flatten()), r"fc2\.weight has shape \[32\], but a head of width 16.*\[2, 16\]"),
        (changed(FC1, lambda t: t.T.contiguous()), r"fc1\.weight has shape \[80, 16\]"),
        (changed(FC2, _holed(float("nan"))), r"fc2\.weight has 16 values that are NaN or infinite: fetch or train"),
        (changed(FC1, _holed(float("inf"))), r"fc1\.weight has 80 values that are NaN or infinite"),
        (changed(FC1, lambda t: t.to(torch.int8)), r"fc1\.weight is a strided tensor of int8: save it dense as one of"),
        (changed(FC1, lambda t: t.to(torch.float64)), r"fc1\.weight is a strided tensor of float64"),
        (changed(FC1, lambda t: t.to(torch.bfloat16)), "mixes bfloat16 and float32 in its retaining heads: save them"),
        (lambda: {k: t[:0] if "fc1" in k else t[:, :0] for k, t in heads_alone().items()}, "width is 0"),
        (lambda: {k: torch.ones(()) for k in heads_alone()}, r"fc1\.weight has shape \[\]"),
    ],
)
@pytest.mark.parametrize("ending", [".safetensors", ".bin"])
def test_contents_that_do_not_fit(
    backbone: Path, tmp_path: Path, tensors: Callable[[], dict[str, Tensor]], message: str, ending: str
) -> None:
    path = save_tensors(tensors(), tmp_path / f"heads{ending}")
    with pytest.raises(locret.LocretError, match=message):
        convert_heads(path, backbone)


def test_tensors_without_data_or_order_are_refused(backbone: Path, tmp_path: Path) -> None:
    for change in (Tensor.to_sparse, lambda tensor: tensor.to("meta")):
        path = save_tensors(changed(FC1, change)(), tmp_path / "heads.bin")
        with pytest.raises(locret.LocretError, match=r"fc1\.weight is a .* tensor of float32: save it dense"):
            convert_heads(path, backbone)


def test_an_expanded_tensor_of_enormous_shape_is_not_read(backbone: Path, tmp_path: Path) -> None:
    path = save_tensors(changed(FC1, lambda t: torch.ones(1).expand(2**40))(), tmp_path / "heads.bin")
    with pytest.raises(locret.LocretError, match=r"fc1\.weight has shape \[1099511627776\]"):
        convert_heads(path, backbone)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is no index of shards"),
        ("[]", "is no index of shards"),
        ("{}", "is no index of shards"),
        ('{"weight_map": [1]}', "is no index of shards"),
        (
            json.dumps({"weight_map": {FC1: "../secret.bin"}}),
            r"names '\.\./secret\.bin', which is not a file",
        ),
        (json.dumps({"weight_map": {FC1: "notes.txt", FC2: "notes.txt"}}), r"notes\.txt is no state dict by its name"),
        (
            json.dumps({"weight_map": {FC1: "a.gguf", FC2: "a.gguf"}}),
            r"a\.gguf is a GGUF file, which holds no retaining",
        ),
        (json.dumps({"weight_map": {FC1: "a.bin"}}), "but no fc2 for layer 1"),
    ],
)
def test_a_damaged_index_is_refused(backbone: Path, tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(text)
    with pytest.raises(locret.LocretError, match=message):
        convert_heads(tmp_path, backbone)


@pytest.mark.parametrize("ending", [".safetensors", ".bin"])
def test_shards_that_are_missing_or_lack_a_tensor(backbone: Path, tmp_path: Path, ending: str) -> None:
    shards = [f"a{ending}", f"b{ending}"]
    save_sharded(heads_alone(), tmp_path, shards, "model.safetensors")
    save_tensors({"other": torch.ones(1)}, tmp_path / shards[1])
    with pytest.raises(locret.LocretError, match=rf"b{ending} (is missing, damaged|has no tensor)"):
        convert_heads(tmp_path, backbone)
    (tmp_path / shards[1]).unlink()
    with pytest.raises(locret.LocretError, match=rf"b{ending} is missing, damaged"):
        convert_heads(tmp_path, backbone)


def test_what_to_read_must_be_plain(backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(locret.LocretError, match="holds no retaining heads: a state dict"):
        convert_heads(tmp_path, backbone)
    with pytest.raises(locret.LocretError, match=r"'.*nowhere\.bin' is neither a file nor a folder here"):
        convert_heads(tmp_path / "nowhere.bin", backbone)
    for name in ("a.bin", "b.pt"):
        save_tensors(heads_alone(), tmp_path / name)
    with pytest.raises(locret.LocretError, match=r"several files with retaining heads, .*a\.bin and .*b\.pt: name one"):
        convert_heads(tmp_path, backbone)
    (tmp_path / "notes.txt").write_text("fc1")
    with pytest.raises(locret.LocretError, match=r"notes\.txt is no state dict by its name: give a file that ends in"):
        convert_heads(tmp_path / "notes.txt", backbone)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"config\.json' gives no configuration of a backbone"),
        ("[1]", "gives no configuration of a backbone"),
        ('{"hidden_size": 8}', "gives no configuration .*model_type"),
        ('{"model_type": "gpt2"}', "model family 'gpt2'"),
        ('{"model_type": "llama", "num_hidden_layers": "three"}', "gives no configuration of a backbone"),
        ('{"model_type": "llama", "num_attention_heads": 0}', "gives no configuration of a backbone"),
    ],
)
def test_a_damaged_configuration_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = save_tensors(heads_alone(), tmp_path / "heads.bin")
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(locret.LocretError, match=message):
        convert_heads(path, tmp_path / "config.json")


def test_a_file_alone_needs_its_backbone_named(tmp_path: Path) -> None:
    path = save_tensors(heads_alone(), tmp_path / "heads.bin")
    with pytest.raises(locret.LocretError, match=r"comes without a config\.json: name the backbone .*--model"):
        convert_heads(path)
    with pytest.raises(locret.LocretError, match="'' gives no configuration of a backbone"):
        convert_heads(path, "")


def test_an_export_goes_nowhere_else(tmp_path: Path) -> None:
    heads = tiny_heads(tiny_llama())
    with pytest.raises(locret.LocretError, match=r"heads\.txt is no name for a state dict: give a file that ends in"):
        export_heads(heads, tmp_path / "heads.txt")
    (tmp_path / "folder.bin").mkdir()
    with pytest.raises(locret.LocretError, match=r"folder\.bin is a folder"):
        export_heads(heads, tmp_path / "folder.bin")
    whole = save_tensors({**heads_alone(), "model.norm.weight": torch.ones(3)}, tmp_path / "model.safetensors")
    for path in (whole, tmp_path / "notes.bin"):
        before = whole.read_bytes()
        path.write_bytes(before)
        with pytest.raises(locret.LocretError, match="exists and is no file of retaining heads alone: choose another"):
            export_heads(heads, path)
        assert path.read_bytes() == before
    export_heads(heads, tmp_path / "heads.bin")
    export_heads(tiny_heads(tiny_llama(), seed=6), tmp_path / "heads.bin")  # over heads, heads may be written


def test_a_number_of_thousands_of_digits_is_no_layer(backbone: Path, tmp_path: Path) -> None:
    save_tensors({**heads_alone(), f"layers.{'7' * 5000}.fc1.weight": torch.zeros(1)}, tmp_path / "a.safetensors")
    assert convert_heads(tmp_path / "a.safetensors", backbone).config.layers == 3
