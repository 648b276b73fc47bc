"""GGUF files: good ones equal the model they were made of, bad ones are refused in a line."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

import locret
from locret.models.checkpoint import load_config, resolve
from locret.models.gguf_config import ARCHITECTURES
from tests.conftest import TINY_MODELS
from tests.models.bad_gguf import BAD, write_bad
from tests.models.gguf_files import SPECIAL, TEMPLATE, TOKENS, draft_of, reference_tokenizer, small_llama

# How far weights may be from what they were, as a part of the largest in their block of 32.
ERRORS = {"F32": 0.0, "F16": 0.001, "BF16": 0.004, "Q8_0": 0.0045, "Q5_0": 0.065, "Q4_0": 0.13, "Q4_1": 0.07}
# What files do not say: llama.cpp has it in its code.
UNTOLD = {"qwen3moe": {"norm_topk_prob": True}, "gemma3": {"num_hidden_layers": 6, "layer_types": None}}
TEXT = "The the then in <|im_start|>thing\n\n  zwölf 2024 the inn"


@pytest.mark.parametrize("kind", ERRORS)
def test_weights_equal_those_the_file_was_made_of(kind: str, tmp_path: Path) -> None:
    source = small_llama()
    path = dataclasses.replace(draft_of(source), kind=GGMLQuantizationType[kind]).write(tmp_path / "model.gguf")
    model, _, heads = locret.load_model(str(path), device="cpu")
    assert heads is None
    assert model.dtype == torch.float32
    loaded = model.state_dict()
    assert loaded.keys() == source.state_dict().keys()
    for name, weight in source.state_dict().items():
        apart, blocks = (loaded[name] - weight).abs().reshape(-1, 32), weight.abs().reshape(-1, 32)
        allowed = ERRORS[kind] if weight.dim() > 1 else 0.0
        assert (apart <= allowed * blocks.amax(-1, keepdim=True)).all(), name
    if kind != "F32":
        assert not torch.equal(loaded["model.layers.0.mlp.up_proj.weight"], source.model.layers[0].mlp.up_proj.weight)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_is_what_transformers_reads_and_computes_the_same(architecture: str, tmp_path: Path) -> None:
    source = TINY_MODELS[ARCHITECTURES[architecture]](vocab_size=len(TOKENS), **UNTOLD.get(architecture, {}))
    path = draft_of(source).write(tmp_path / "model.gguf")
    model, _, _ = locret.load_model(str(path), device="cpu")
    ids = torch.randint(3, len(TOKENS), (1, 40), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(model(ids).logits, source(ids).logits, atol=2e-4, rtol=2e-4)
    # Its own configuration of Qwen 3 has heads of 128, whatever the file says.
    options = {"config": model.config, "dtype": torch.float32}
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file=path.name, **options)
    for name, weight in theirs.state_dict().items():
        assert torch.equal(weight, model.state_dict()[name]), name


@pytest.mark.parametrize("tied", [True, False])
def test_the_last_projection_may_be_the_embedding(tied: bool, tmp_path: Path) -> None:
    source = small_llama(tie_word_embeddings=tied)
    draft = draft_of(source)
    assert ("output.weight" in draft.tensors) is not tied
    model, _, _ = locret.load_model(str(draft.write(tmp_path / "model.gguf")), device="cpu")
    assert (model.lm_head.weight is model.model.embed_tokens.weight) is tied
    assert torch.equal(model.lm_head.weight, source.lm_head.weight)


def test_the_tokenizer_and_its_template_come_from_the_file(tmp_path: Path) -> None:
    path = draft_of(small_llama()).write(tmp_path / "model.gguf")
    (tmp_path / "tokenizer.json").write_text("not what is to be read")
    tokenizer, reference = resolve(path).tokenizer(), reference_tokenizer()
    ids = tokenizer(TEXT).input_ids
    assert ids == reference.encode(TEXT).ids
    assert tokenizer.decode(ids) == TEXT
    assert tokenizer.chat_template == TEMPLATE
    chat = tokenizer.apply_chat_template([{"role": "user", "content": "the inn"}], add_generation_prompt=True)
    assert tokenizer.decode(chat["input_ids"]) == "<|im_start|>user\nthe inn<|im_end|>\n<|im_start|>assistant\n"
    assert (tokenizer.bos_token, tokenizer.eos_token) == SPECIAL[1:]
    (tmp_path / "tokenizer.json").unlink()
    assert AutoTokenizer.from_pretrained(tmp_path, gguf_file=path.name)(TEXT).input_ids == ids


def test_what_is_loaded_is_a_plain_model_that_can_be_saved(tmp_path: Path) -> None:
    path = draft_of(small_llama()).write(tmp_path / "model.gguf")
    model, tokenizer, _ = locret.load_model(str(path), dtype="bfloat16", device="cpu")
    assert model.dtype == torch.bfloat16
    assert getattr(model.config, "quantization_config", None) is None
    assert model.generation_config.eos_token_id == 2
    model.save_pretrained(tmp_path / "saved")
    tokenizer.save_pretrained(tmp_path / "saved")
    again, words, _ = locret.load_model(str(tmp_path / "saved"), device="cpu")
    assert again.dtype == torch.bfloat16
    assert all(torch.equal(weight, model.state_dict()[name]) for name, weight in again.state_dict().items())
    assert words(TEXT).input_ids == tokenizer(TEXT).input_ids


def test_a_turn_of_a_chat_may_end_with_another_token(tmp_path: Path) -> None:
    draft = draft_of(small_llama()).changed(tokenizer__ggml__eot_token_id=0)
    model, _, _ = locret.load_model(str(draft.write(tmp_path / "model.gguf")), device="cpu")
    assert model.generation_config.eos_token_id == [0, 2]


def test_scaled_rotary_embedding_is_not_left_out(tmp_path: Path) -> None:
    wide = draft_of(small_llama(max_position_embeddings=32768))
    linear = wide.changed(llama__rope__scaling__type="linear", llama__rope__scaling__factor=4.0)
    parameters = load_config(linear.write(tmp_path / "linear.gguf")).rope_parameters
    assert (parameters["rope_type"], parameters["factor"]) == ("linear", 4.0)
    early = wide.changed(llama__rope__scale_linear=4.0)
    assert load_config(early.write(tmp_path / "early.gguf")).rope_parameters == parameters
    original = {"llama__rope__scaling__original_context_length": 4096}
    yarn = wide.changed(llama__rope__scaling__type="yarn", llama__rope__scaling__factor=8.0, **original)
    parameters = load_config(yarn.write(tmp_path / "yarn.gguf")).rope_parameters
    assert parameters["rope_type"] == "yarn"
    assert (parameters["factor"], parameters["original_max_position_embeddings"]) == (8.0, 4096)


def test_the_frequencies_of_llama_3_are_known_again(tmp_path: Path) -> None:
    rope = {"rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0}
    rope |= {"high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
    source = small_llama(max_position_embeddings=131072, rope_parameters=rope)
    plain = 1.0 / 500000.0 ** (torch.arange(0, 16, 2) / 16)
    ours, _ = ROPE_INIT_FUNCTIONS["llama3"](source.config)
    draft = draft_of(source).changed(llama__rope__freq_base=500000.0)
    path = draft.with_tensor("rope_freqs.weight", (plain / ours).numpy()).write(tmp_path / "model.gguf")
    model, _, _ = locret.load_model(str(path), device="cpu")
    torch.testing.assert_close(model.model.rotary_emb.inv_freq, source.model.rotary_emb.inv_freq)


def test_long_factors_of_phi_3_are_read(tmp_path: Path) -> None:
    source = TINY_MODELS["phi3"](vocab_size=len(TOKENS), max_position_embeddings=2048, partial_rotary_factor=0.75)
    short, long = np.linspace(1, 1.3, 3), np.linspace(2, 8, 3)
    draft = draft_of(source).changed(phi3__rope__scaling__original_context_length=512, phi3__rope__dimension_count=6)
    draft = draft.with_tensor("rope_factors_short.weight", short).with_tensor("rope_factors_long.weight", long)
    model, _, _ = locret.load_model(str(draft.write(tmp_path / "model.gguf")), device="cpu")
    parameters = model.config.rope_parameters
    assert parameters["rope_type"] == "longrope"
    assert parameters["partial_rotary_factor"] == 0.75
    assert parameters["original_max_position_embeddings"] == 512
    np.testing.assert_allclose(parameters["long_factor"], long, rtol=1e-6)
    np.testing.assert_allclose(parameters["short_factor"], short, rtol=1e-6)


def test_the_largest_gemma_3_scales_queries_otherwise(tmp_path: Path) -> None:
    draft = draft_of(TINY_MODELS["gemma3_text"](vocab_size=len(TOKENS), **UNTOLD["gemma3"]))
    deep = draft.changed(gemma3__block_count=62).with_tensor("blk.61.attn_norm.weight", np.ones(48))
    small, large = draft.write(tmp_path / "4b.gguf"), deep.write(tmp_path / "27b.gguf")
    assert load_config(small).query_pre_attn_scalar == 256
    assert load_config(large).query_pre_attn_scalar == 48 // 6


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_file_is_refused_in_a_line(kind: str, tmp_path: Path) -> None:
    path, (_, message) = write_bad(kind, tmp_path), BAD[kind]
    with pytest.raises(locret.LocretError, match=message) as caught:
        locret.load_model(str(path), device="cpu")
    assert "\n" not in str(caught.value)


def test_a_header_cut_anywhere_is_refused(tmp_path: Path) -> None:
    data = draft_of(small_llama()).write(tmp_path / "whole.gguf").read_bytes()
    cut = tmp_path / "cut.gguf"
    for length in range(0, 12000, 97):
        cut.write_bytes(data[:length])
        with pytest.raises(locret.LocretError, match=r"is empty|is no GGUF file|is damaged|is cut short"):
            resolve(cut)


def test_without_the_package_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = draft_of(small_llama()).write(tmp_path / "model.gguf")
    monkeypatch.setattr("locret.models.gguf_header.find_spec", lambda name: None)
    with pytest.raises(locret.LocretError, match="needs the package gguf: pip install gguf"):
        resolve(path)
