"""A tiny model and tokenizer that take any text."""

from __future__ import annotations

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from tests.conftest import tiny_llama

SPECIAL = ("<s>", "</s>")
TEXT = (
    " ".join(f"The {thing} stood by the river, and nobody asked why." for thing in ("mill", "barn", "inn", "oak")) * 40
)


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """One token a byte of text."""
    letters = [*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokenizer = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate(letters)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")


def byte_llama(**changes: object) -> LlamaForCausalLM:
    """A random Llama for `byte_tokenizer`, with a window of 4096."""
    return tiny_llama(**{"vocab_size": 258, "max_position_embeddings": 4096, **changes})
