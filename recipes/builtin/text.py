"""Training text of the built-in model: docstrings of the standard library, and books when given.

The help texts in ``pydoc_data.topics`` are the evaluation filler, so they never enter here.
"""

from __future__ import annotations

import ast
import collections
import gzip
import json
import random
import re
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from locret.files import write_text_whole

SKIPPED_FOLDERS = {"test", "tests", "idle_test", "site-packages", "pydoc_data", "dist-packages"}
WORD = re.compile(r"(?<![A-Za-z'-])[a-z]{4,9}(?![A-Za-z'-])")
ONSETS = (*"bdfgklmnprstvz", "br", "dr", "gr", "kr", "pl", "st", "th", "tr", "sh", "ch")
VOWELS = (*"aeiou", "ai", "or", "an", "el", "in")


def docstrings() -> Iterator[str]:
    """Docstrings of every importable source file of the standard library, tests left out."""
    root = Path(sysconfig.get_paths()["stdlib"])
    for path in sorted(root.rglob("*.py")):
        if SKIPPED_FOLDERS & set(path.relative_to(root).parts):
            continue
        try:
            tree = ast.parse(path.read_text(encoding="utf-8"))
        except (SyntaxError, UnicodeDecodeError):
            continue
        for node in ast.walk(tree):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
                text = ast.get_docstring(node)
                if text and len(text) > 80:
                    yield text


def books(path: Path) -> Iterator[str]:
    """Texts of a ``.jsonl.gz`` file that has one book a line under ``text``."""
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)["text"]


def training_texts(books_path: Path | None) -> list[str]:
    """All training texts, one string a document, whitespace left as it is."""
    texts = ["\n\n".join(docstrings())]
    if books_path is not None:
        texts.extend(books(books_path))
    return texts


def common_words(texts: list[str], count: int) -> list[str]:
    """The ``count`` most frequent lower-case words of 4 to 9 letters, in alphabetical order."""
    counter: collections.Counter[str] = collections.Counter()
    for text in texts:
        counter.update(WORD.findall(text))
    return sorted(word for word, _ in counter.most_common(count))


def made_up_names(count: int, seed: int = 0) -> list[str]:
    """``count`` distinct names of two or three syllables, such as ``Brasteldan``."""
    rng = random.Random(seed)
    names: set[str] = set()
    while len(names) < count:
        syllables = (rng.choice(ONSETS) + rng.choice(VOWELS) for _ in range(rng.choice((2, 3))))
        names.add("".join(syllables).capitalize())
    return sorted(names)


def write_words(path: Path, texts: list[str], words: int = 4000, names: int = 1000) -> None:
    """Write the word list that needles draw their keys and values from, one word a line."""
    listed = common_words(texts, words) + made_up_names(names)
    write_text_whole(path, "\n".join(listed) + "\n")
