"""What documents are made of: noise, essays, words, numbers, and files that are here or on the hub."""

from __future__ import annotations

import functools
import importlib.resources
import random
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import hf_hub_download

from locret.errors import LocretError
from locret.eval.haystack import Filler
from locret.texts import parse_foreign_json, read_text

NOISE = "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again."
HUB = "hf://datasets/"
NUMBER_DIGITS = 7


@dataclass(frozen=True, slots=True)
class Sources:
    """Where texts come from that are not made here: files, or `hf://datasets/owner/name/file` of the hub.

    Attributes:
        essay: text of the essay haystack: plain, JSONL with a `text` field a line, or JSON with one `text` field, .gz
            too; None takes the Python language reference, which differs a little between versions of Python.
        questions: SQuAD v2's or HotpotQA's own JSON file, .gz too.
    """

    essay: str | None = None
    questions: str | None = None

    def essay_words(self) -> tuple[str, ...]:
        """The essay's words.

        Raises:
            LocretError: it cannot be read, or has no text.
        """
        filler = Filler.python_reference() if self.essay is None else _filler(fetch(self.essay))
        return tuple("".join(filler.pieces).split())


def fetch(name: str) -> Path:
    """A file that is here, or of a hub data set, which is downloaded once.

    Raises:
        LocretError: there is no such file, or it cannot be fetched.
    """
    if not name.startswith(HUB):
        if not Path(name).is_file():
            raise LocretError(f"no file {name}: give a file that is here, or {HUB}OWNER/NAME/FILE")
        return Path(name)
    owner, name_, path = [*name.removeprefix(HUB).split("/", 2), "", ""][:3]
    if not path:
        raise LocretError(f"{name} names no file of a data set: give {HUB}OWNER/NAME/FILE")
    try:
        return Path(hf_hub_download(f"{owner}/{name_}", path, repo_type="dataset"))
    except Exception as error:  # besides its own errors, whatever the network library raises
        raise LocretError(
            f"{name} could not be fetched from the hub ({type(error).__name__}): check the name or the network"
        ) from error


def read_foreign_json(path: Path) -> Any:
    """The JSON of a file, plain or gzipped.

    Raises:
        LocretError: it cannot be read, is no JSON, or its text holds what is no character.
    """
    return parse_foreign_json(read_text(path), str(path))


@functools.cache
def word_list() -> tuple[str, ...]:
    """The package's English words, in lower case."""
    text = importlib.resources.files("locret.eval").joinpath("words.txt").read_text("utf-8")
    return tuple(word for word in text.split() if word.islower())


def draw_word(rng: random.Random) -> str:
    """Two words with a hyphen: more keys than anybody needs out of a short list."""
    return "-".join(rng.sample(word_list(), 2))


def draw_number(rng: random.Random) -> str:
    """A number of seven digits."""
    return str(rng.randrange(10 ** (NUMBER_DIGITS - 1), 10**NUMBER_DIGITS))


def draw_uuid(rng: random.Random) -> str:
    """A random UUID, as any."""
    return str(uuid.UUID(int=rng.getrandbits(128), version=4))


def draw_letters(letters: str, count: int, rng: random.Random) -> str:
    """So many letters in a row."""
    return "".join(rng.choices(letters, k=count))


def draw_distinct(draw: Callable[[random.Random], str], count: int, rng: random.Random) -> tuple[str, ...]:
    """`count` different strings, in the order drawn."""
    drawn: dict[str, None] = {}
    while len(drawn) < count:
        drawn[draw(rng)] = None
    return tuple(drawn)


def _filler(path: Path) -> Filler:
    if ".json" not in path.suffixes:
        return Filler.from_file(path)
    try:
        return Filler(read_foreign_json(path)["text"])
    except (KeyError, TypeError, AttributeError) as error:
        raise LocretError(f"{path} needs a JSON object with a 'text' field") from error
