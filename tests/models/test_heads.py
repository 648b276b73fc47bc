"""Retaining heads: the formula, files, and refusals."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import locret
from locret.models.families import Projections, family_of
from locret.models.fingerprint import fingerprint_of
from locret.models.taps import tap_projections
from tests.conftest import tiny_llama


def heads_of(model: torch.nn.Module) -> locret.RetainingHeads:
    return locret.RetainingHeads.from_config(
        model.config, width=16, objective="logits", fingerprint=fingerprint_of(model)
    )


def test_the_score_is_the_formula_of_the_paper() -> None:
    model = tiny_llama()
    heads = heads_of(model)
    q, k, v = torch.randn(1, 5, 48), torch.randn(1, 5, 16), torch.randn(1, 5, 16)
    head = heads.layers[1]
    hidden = torch.nn.functional.silu(torch.cat([q, k, v], -1) @ head.fc1.weight.T)
    expected = (hidden @ head.fc2.weight.T).transpose(1, 2)
    torch.testing.assert_close(heads.score(1, Projections(q, k, v)), expected)
    assert head.fc1.bias is None and head.fc2.bias is None


def test_taps_give_the_projections_before_rotary_embedding() -> None:
    model = tiny_llama()
    seen: dict[int, Projections] = {}
    hidden: list[torch.Tensor] = []
    layer = model.model.layers[1]
    hook = layer.input_layernorm.register_forward_hook(lambda module, args, out: hidden.append(out))
    with torch.no_grad(), tap_projections(model, lambda index, projections: seen.update({index: projections})):
        model(torch.arange(1, 9)[None])
    hook.remove()
    assert sorted(seen) == [0, 1, 2]
    for name, found in zip(("q_proj", "k_proj", "v_proj"), seen[1], strict=True):
        torch.testing.assert_close(found, getattr(layer.self_attn, name)(hidden[0]))
    seen.clear()
    model(torch.arange(1, 9)[None])
    assert not seen


def test_hooks_change_nothing_for_other_caches_and_come_off() -> None:
    model = tiny_llama()
    ids = torch.arange(1, 30)[None]
    before = model.generate(ids, max_new_tokens=5, do_sample=False)
    locret.attach(model)
    locret.attach(model)
    assert torch.equal(model.generate(ids, max_new_tokens=5, do_sample=False), before)
    locret.detach(model)
    locret.detach(model)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_saved_heads_come_back(tmp_path: Path, dtype: torch.dtype) -> None:
    heads = heads_of(tiny_llama()).to(dtype)
    heads.save_pretrained(tmp_path / "heads")
    again = locret.RetainingHeads.from_pretrained(tmp_path / "heads")
    assert again.config == heads.config
    for name, tensor in heads.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor)
    assert sorted(p.name for p in (tmp_path / "heads").iterdir()) == ["heads.json", "heads.safetensors"]


def test_heads_of_another_model_are_refused_with_what_differs() -> None:
    heads, budget = heads_of(tiny_llama()), locret.Budget(size=16)
    policy = locret.get_policy("locret", heads=heads)
    with pytest.raises(locret.LocretError, match="of another model: layers is 3, the model has 2"):
        locret.BudgetCache(tiny_llama(num_hidden_layers=2), policy=policy, budget=budget)
    with pytest.raises(locret.LocretError, match=r"kv_heads is 2, the model has 3: load its own"):
        locret.Engine(tiny_llama(num_key_value_heads=3), policy=policy, budget=budget)
    with pytest.raises(locret.LocretError, match=r"other weights .* fingerprints differ"):
        locret.Engine(tiny_llama(seed=1), policy=policy, budget=budget)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_fingerprint_survives_another_precision(dtype: torch.dtype) -> None:
    heads = heads_of(tiny_llama())
    heads.check_fits(tiny_llama().to(dtype))


def test_an_unknown_family_is_refused_by_name() -> None:
    config = tiny_llama().config
    config.model_type = "plume"
    with pytest.raises(locret.LocretError, match="unknown model family 'plume': choose one of gemma3_text"):
        family_of(config)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    heads_of(tiny_llama()).save_pretrained(tmp_path)
    return tmp_path


def test_a_truncated_checkpoint_is_refused(folder: Path) -> None:
    weights = folder / "heads.safetensors"
    whole = weights.read_bytes()
    for length in (0, 4, 100, len(whole) - 1):
        weights.write_bytes(whole[:length])
        with pytest.raises(locret.LocretError, match="missing, damaged or cut short"):
            locret.RetainingHeads.from_pretrained(folder)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '"x"', "{}", '{"layers": "three"}', '{"model_type": "llama", "layers": 3}']
)
def test_a_damaged_configuration_is_refused(folder: Path, text: str) -> None:
    (folder / "heads.json").write_text(text)
    with pytest.raises(locret.LocretError, match=r"heads\.json is not a configuration"):
        locret.RetainingHeads.from_pretrained(folder)


def test_files_that_do_not_belong_together_are_refused(folder: Path) -> None:
    config = json.loads((folder / "heads.json").read_text())
    (folder / "heads.json").write_text(json.dumps({**config, "width": 8}))
    with pytest.raises(locret.LocretError, match=r"fc1\.weight has shape \(16, 80\), but heads\.json says \(8, 80\)"):
        locret.RetainingHeads.from_pretrained(folder)


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("width", 64.0, "width is 64.0, which is no int"),
        ("layers", True, "layers is true, which is no int"),
        ("kv_heads", 0, "kv_heads is 0: retaining heads need a whole number of at least 1"),
        ("model_type", None, "model_type is null, which is no str"),
        ("fingerprint", [1.0, "x"], r"fingerprint is \[1.0, \"x\"\], which is no tuple"),
        ("fingerprint", [float("nan")], "fingerprint is .NaN., which is no tuple"),
    ],
)
def test_fields_of_another_type_are_named(folder: Path, field: str, value: object, words: str) -> None:
    config = json.loads((folder / "heads.json").read_text())
    (folder / "heads.json").write_text(json.dumps({**config, field: value}))
    with pytest.raises(locret.LocretError, match=rf"heads\.json is not a configuration of retaining heads \({words}"):
        locret.RetainingHeads.from_pretrained(folder)


def test_more_layers_than_there_are_tensors_are_never_made(folder: Path) -> None:
    config = json.loads((folder / "heads.json").read_text())
    (folder / "heads.json").write_text(json.dumps({**config, "layers": 10**12}))
    with pytest.raises(locret.LocretError, match=r"has 6 tensors, but heads\.json says 1000000000000 layers of 2"):
        locret.RetainingHeads.from_pretrained(folder)


@pytest.mark.parametrize(
    ("dtypes", "words"),
    [
        ((torch.int8,) * 6, r"fc1\.weight is a strided tensor of int8: save it dense as one of float32"),
        ((torch.float32,) * 5 + (torch.bfloat16,), "mixes bfloat16 and float32 in its retaining heads"),
    ],
)
def test_tensors_that_are_no_plain_numbers_are_refused(
    folder: Path, dtypes: tuple[torch.dtype, ...], words: str
) -> None:
    path = folder / "heads.safetensors"
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    changed = {name: tensor.to(dtype) for (name, tensor), dtype in zip(load_file(path).items(), dtypes, strict=True)}
    save_file(changed, path, metadata=metadata)
    with pytest.raises(locret.LocretError, match=words):
        locret.RetainingHeads.from_pretrained(folder)


def test_heads_that_no_memory_holds_are_refused_before_they_are_made() -> None:
    with pytest.raises(
        locret.LocretError, match=r"retaining heads of width 1000000000 would take .* GiB, and this machine"
    ):
        locret.RetainingHeads.from_config(tiny_llama().config, width=10**9)


def test_an_activation_that_is_not_known_is_refused(folder: Path) -> None:
    config = json.loads((folder / "heads.json").read_text())
    (folder / "heads.json").write_text(json.dumps({**config, "activation": "sillu"}))
    with pytest.raises(locret.LocretError, match=r"activation is 'sillu': transformers has .*silu"):
        locret.RetainingHeads.from_pretrained(folder)


def test_a_folder_without_heads_and_a_wrong_name_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(locret.LocretError, match=r"holds no retaining heads: heads\.json"):
        locret.RetainingHeads.from_pretrained(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(locret.LocretError, match="neither a folder nor could they be fetched"):
        locret.RetainingHeads.from_pretrained(tmp_path / "nowhere" / "at" / "all")


def test_no_space_while_saving_leaves_what_was_there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {p.name: p.read_bytes() for p in folder.iterdir()}

    def full(*args: object, **kwargs: object) -> None:
        Path(str(args[1])).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("locret.models.heads_io.save_file", full)
    with pytest.raises(
        locret.LocretError, match=r"could not write .*heads\.safetensors: No space left on device: free"
    ):
        heads_of(tiny_llama(seed=3)).save_pretrained(folder)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before


def test_heads_are_copied_for_a_model_and_stay_as_they_are() -> None:
    model = tiny_llama()
    low = tiny_llama().to(torch.bfloat16)
    heads = locret.RetainingHeads.from_config(model.config, width=16)
    before = {name: tensor.clone() for name, tensor in heads.state_dict().items()}
    policy, budget = locret.get_policy("locret", heads=heads), locret.Budget(size=24, chunk=32, local=4)
    ids = torch.randint(1, 97, (1, 100))
    engine = locret.Engine(model, policy=policy, budget=budget)
    session = engine.prefill(ids)
    locret.Engine(low, policy=policy, budget=budget).prefill(ids)
    assert all(torch.equal(tensor, before[name]) for name, tensor in heads.state_dict().items())
    assert heads.layers[0].fc1.weight.dtype == torch.float32
    assert heads.layers[0].folded is None
    assert torch.equal(engine.prefill(ids).logits, session.logits)
    engine.prefill(ids[:, :3], session)


def test_what_fits_is_shared_and_what_was_trained_on_is_copied_again() -> None:
    model, low = tiny_llama(), tiny_llama().to(torch.bfloat16)
    heads = locret.RetainingHeads.from_config(model.config, width=16)
    assert heads.beside(model) is heads.beside(model)
    assert heads.beside(model).layers[0].fc1.weight.data_ptr() == heads.layers[0].fc1.weight.data_ptr()
    stale = heads.beside(low)
    with torch.no_grad():
        heads.layers[0].fc2.weight.add_(1.0)
    assert heads.beside(low) is not stale
    torch.testing.assert_close(
        heads.beside(low).layers[0].fc2.weight.float(), heads.layers[0].fc2.weight, rtol=1e-2, atol=1e-2
    )
