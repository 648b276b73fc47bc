"""Published heads are found in every layout, and come out as they went in."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import locret
from locret.models import heads_io, sources
from locret.models.convert import convert_heads
from locret.models.families import list_families
from locret.models.fingerprint import fingerprint_of
from locret.models.original import export_heads, to_original
from tests.conftest import TINY_MODELS, tiny_llama
from tests.models.published import FolderHub, heads_alone, save_sharded, save_tensors, tiny_heads, whole_model

SHARDS = ["model-00001-of-00003.safetensors", "model-00002-of-00003.safetensors", "model-00003-of-00003.safetensors"]
BIN_SHARDS = ["pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin"]


@pytest.fixture
def backbone(tmp_path: Path) -> Path:
    """A folder with nothing but the configuration of the model that the heads are for."""
    folder = tmp_path / "backbone"
    tiny_llama().config.save_pretrained(folder)
    return folder


def same(heads: locret.RetainingHeads, model: torch.nn.Module | None = None) -> bool:
    """Whether these are the heads that `heads_alone` and `whole_model` hold, bit by bit."""
    expected = tiny_heads(model or tiny_llama()).state_dict()
    found = heads.state_dict()
    return found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("family", list_families())
def test_a_whole_model_of_every_family_gives_heads_and_fingerprint(family: str, tmp_path: Path) -> None:
    model = TINY_MODELS[family]()
    model.config.save_pretrained(tmp_path)
    save_tensors(whole_model(model), tmp_path / "model.safetensors")
    heads = convert_heads(tmp_path)
    assert same(heads, model)
    assert heads.config.fingerprint == fingerprint_of(model) != ()
    assert heads.config.objective == "logits"
    heads.check_fits(model)
    with pytest.raises(locret.LocretError, match="fingerprints differ"):
        heads.check_fits(TINY_MODELS[family](seed=1))


def test_weights_that_cannot_be_compared_give_no_fingerprint(tmp_path: Path) -> None:
    model = tiny_llama()
    model.config.save_pretrained(tmp_path)
    for change in (torch.Tensor.char, lambda tensor: tensor * torch.nan):
        tensors = whole_model(model)
        key = "model.layers.1.self_attn.v_proj.weight"
        save_tensors(tensors | {key: change(tensors[key])}, tmp_path / "model.safetensors")
        assert convert_heads(tmp_path).config.fingerprint == ()


@pytest.mark.parametrize("name", ["heads.safetensors", "heads.bin", "heads.pt", "heads.pth"])
@pytest.mark.parametrize("in_folder", [True, False])
def test_heads_alone_in_any_file(backbone: Path, tmp_path: Path, name: str, in_folder: bool) -> None:
    path = save_tensors(heads_alone(), tmp_path / "published" / name)
    heads = convert_heads(path.parent if in_folder else path, backbone)
    assert same(heads)
    assert heads.config.fingerprint == ()
    assert heads.config.width == 16


def test_the_configuration_may_be_a_file(backbone: Path, tmp_path: Path) -> None:
    path = save_tensors(heads_alone(), tmp_path / "heads.bin")
    assert same(convert_heads(path, backbone / "config.json"))


def test_a_file_from_before_the_zip_format(backbone: Path, tmp_path: Path) -> None:
    path = tmp_path / "old.bin"
    torch.save(heads_alone(), path, _use_new_zipfile_serialization=False)
    assert same(convert_heads(path, backbone))


@pytest.mark.parametrize(
    "prefix", ["layers.{}.self_attn.", "module.model.layers.{}.self_attn.", "language_model.model.layers.{}.attn."]
)
def test_other_prefixes(backbone: Path, tmp_path: Path, prefix: str) -> None:
    assert same(convert_heads(save_tensors(heads_alone(prefix), tmp_path / "heads.safetensors"), backbone))


def test_tensors_of_other_parts_are_passed_over(backbone: Path, tmp_path: Path) -> None:
    others = {
        "model.layers.0.mlp.fc1.weight": torch.ones(3, 3),
        "vision.layers.7.mlp.fc2.weight": torch.ones(3),
        "model.layers.0.self_attn.fc1.scale": torch.ones(()),
    }
    tensors = heads_alone() | others | {"epoch": 3, 4: "x"}
    assert same(convert_heads(save_tensors(tensors, tmp_path / "all.bin"), backbone))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("ending", [".safetensors", ".bin"])
def test_there_and_back_is_bit_identical(backbone: Path, tmp_path: Path, dtype: torch.dtype, ending: str) -> None:
    tensors = {name: tensor.to(dtype) for name, tensor in heads_alone().items()}
    first = convert_heads(save_tensors(tensors, tmp_path / f"first{ending}"), backbone)
    assert {tensor.dtype for tensor in first.state_dict().values()} == {dtype}
    first.save_pretrained(tmp_path / "heads")
    saved = locret.RetainingHeads.from_pretrained(tmp_path / "heads")
    export_heads(saved, tmp_path / f"second{ending}")
    second = convert_heads(tmp_path / f"second{ending}", backbone)
    assert second.config == first.config
    exported = to_original(second)
    assert exported.keys() == tensors.keys()
    assert all(torch.equal(exported[name], tensors[name]) and exported[name].dtype == dtype for name in tensors)


@pytest.mark.parametrize(("shards", "stem"), [(SHARDS, "model.safetensors"), (BIN_SHARDS, "pytorch_model.bin")])
def test_a_sharded_whole_model(tmp_path: Path, shards: list[str], stem: str) -> None:
    model = tiny_llama()
    model.config.save_pretrained(tmp_path)
    heads = convert_heads(save_sharded(whole_model(model), tmp_path, shards, stem))
    assert same(heads)
    assert heads.config.fingerprint == fingerprint_of(model)


def test_shards_without_heads_are_not_touched(tmp_path: Path) -> None:
    model = tiny_llama()
    model.config.save_pretrained(tmp_path)
    rest = {"model.embed_tokens.weight": torch.ones(3, 3)}
    save_sharded(rest | heads_alone(), tmp_path, ["model-a.safetensors", "model-b.safetensors"], "model.safetensors")
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(index.read_text().replace('"model.embed_tokens.weight": "model-a', '"x": "model-c'))
    assert same(convert_heads(tmp_path))


@pytest.mark.parametrize("sharded", [True, False])
def test_a_backbone_with_heads_in_a_file_beside_it(tmp_path: Path, sharded: bool) -> None:
    model = tiny_llama()
    model.config.save_pretrained(tmp_path)
    if sharded:
        save_sharded(model.state_dict(), tmp_path, SHARDS, "model.safetensors")
    else:
        save_tensors(model.state_dict(), tmp_path / "model.safetensors")
    save_tensors(heads_alone(), tmp_path / "heads.bin")
    (tmp_path / "training_args.bin").write_bytes(b"a pickle of objects, left by a trainer")
    assert same(convert_heads(tmp_path))


def test_from_the_hub_only_what_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, repository = tiny_llama(), tmp_path / "repository"
    model.config.save_pretrained(repository)
    save_sharded(model.state_dict(), repository, SHARDS, "model.safetensors")
    save_tensors(heads_alone(), repository / "heads.bin")
    for name in ("training_args.bin", "tokenizer.json", "original/consolidated.00.pth"):
        (repository / name).parent.mkdir(exist_ok=True)
        (repository / name).touch()
    hub = FolderHub(repository, tmp_path / "cache")
    monkeypatch.setattr(sources, "snapshot_download", hub)
    assert same(convert_heads("owner/name"))
    assert set(hub.names) == {"owner/name"}
    assert hub.fetched() == ["config.json", "heads.bin", "model.safetensors.index.json"]


def test_a_sharded_whole_model_from_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, repository = tiny_llama(), tmp_path / "repository"
    model.config.save_pretrained(repository)
    rest = {f"rest.{i}": torch.ones(1) for i in range(100)}
    save_sharded(whole_model(model) | rest, repository, SHARDS, "model.safetensors")
    hub = FolderHub(repository, tmp_path / "cache")
    monkeypatch.setattr(sources, "snapshot_download", hub)
    assert convert_heads("owner/name").config.fingerprint == fingerprint_of(model)
    assert SHARDS[0] in hub.fetched()
    assert SHARDS[2] not in hub.fetched()


def test_a_hub_that_cannot_be_reached(backbone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str, **_: object) -> str:
        raise ConnectionError

    monkeypatch.setattr(sources, "snapshot_download", fail)
    with pytest.raises(locret.LocretError, match=r"'owner/name' is neither a file .*\(ConnectionError\): check"):
        convert_heads("owner/name", backbone)


def test_loading_published_heads_as_they_are_names_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save_tensors(heads_alone(), tmp_path / "repository" / "heads.bin")
    with pytest.raises(locret.LocretError, match=r"holds no retaining heads: heads\.json .*`locret convert"):
        locret.RetainingHeads.from_pretrained(path.parent)
    with pytest.raises(locret.LocretError, match=r"heads\.bin is a file: .*`locret convert"):
        locret.RetainingHeads.from_pretrained(path)
    monkeypatch.setattr(heads_io, "snapshot_download", FolderHub(path.parent, tmp_path / "cache"))
    with pytest.raises(locret.LocretError, match=r"owner/name has no heads\.json: `locret convert owner/name FOLDER`"):
        locret.RetainingHeads.from_pretrained("owner/name")


def test_heads_in_our_format_come_from_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_heads(tiny_llama()).save_pretrained(tmp_path / "repository")
    hub = FolderHub(tmp_path / "repository", tmp_path / "cache")
    monkeypatch.setattr(heads_io, "snapshot_download", hub)
    assert same(locret.RetainingHeads.from_pretrained("owner/name"))
    monkeypatch.setattr(sources, "snapshot_download", hub)
    with pytest.raises(locret.LocretError, match=r"owner/name has a heads\.json: .* already, load them as they are"):
        convert_heads("owner/name")
