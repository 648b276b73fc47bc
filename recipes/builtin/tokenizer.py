"""The built-in tokenizer: byte-level BPE with 2048 tokens and one token a digit.

Run ``python -m recipes.builtin.tokenizer --help``.
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from locret.eval.needles import draw_needles, templates
from recipes.builtin.text import training_texts, write_words

BOS, EOS = "<s>", "</s>"
ROOT = Path(__file__).parents[2]
BUILTIN = ROOT / "src" / "locret" / "builtin"
WORDS = ROOT / "src" / "locret" / "eval" / "words.txt"


def train_tokenizer(texts: list[str], size: int = 2048) -> PreTrainedTokenizerFast:
    """A tokenizer trained on ``texts``.

    A digit keeps the space before it (`` 3812`` is `` 3``, ``8``, ``1``, ``2``); a space of its own
    between a key and its value would stand in the way of copying.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r" ?[0-9]"), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[BOS, EOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A",
        pair=f"{BOS} $A $B",
        special_tokens=[(BOS, tokenizer.token_to_id(BOS))],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=EOS,
        model_max_length=32768,
        clean_up_tokenization_spaces=False,
    )


def template_lines(count: int, seed: int = 0) -> list[str]:
    """Questions with answers of the trained templates, so that their words become tokens."""
    rng = random.Random(seed)
    trained = [template.name for template in templates() if template.trained]
    needles = [draw_needles(rng.choice(trained), 1, rng)[0] for _ in range(count)]
    return [f"{needle.question}{needle.answer}. {needle.sentence}\n" for needle in needles]


def main() -> None:
    """Write the word list and the tokenizer into the package."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--books", type=Path, help="a .jsonl.gz file with books to train on")
    parser.add_argument("--out", type=Path, default=BUILTIN)
    parser.add_argument("--sample", type=int, default=400_000, help="characters of each book")
    arguments = parser.parse_args()
    texts = training_texts(arguments.books)
    write_words(WORDS, texts)
    sampled = [texts[0], *(text[: arguments.sample] for text in texts[1:])]
    tokenizer = train_tokenizer(sampled + template_lines(4000))
    tokenizer.save_pretrained(arguments.out)
    print(f"{len(tokenizer)} tokens in {arguments.out}")


if __name__ == "__main__":
    main()
