"""A tiny model and tokenizer that take any text."""

from __future__ import annotations

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from tests.conftest import tiny_llama

SPECIAL = ("<s>", "</s>")
TEXT = (
    " ".join(f"The {thing} stood by the river, and nobody asked why." for thing in ("mill", "barn", "inn", "oak")) * 40
)


def byte_tokenizer(begins: bool = False) -> PreTrainedTokenizerFast:
    """One token a byte of text; the BOS token, which it has, stands before every text only if it `begins`."""
    letters = [*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokenizer = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate(letters)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    if begins:
        tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")


def byte_llama(**changes: object) -> LlamaForCausalLM:
    """A random Llama for `byte_tokenizer`, with a window of 4096."""
    return tiny_llama(**{"vocab_size": 258, "max_position_embeddings": 4096, **changes})
