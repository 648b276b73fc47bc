"""Needles: facts that are hidden in a long text and asked for afterwards.

A :class:`Template` is a sentence with a key and a value, and the question about it. The question's
text ends with the beginning of the sentence, so that a plain language model has only to go on.
"""

from __future__ import annotations

import functools
import importlib.resources
import itertools
import random
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from locret.errors import LocretError

HELD_OUT_MODULUS = 5
SPLITS = ("trained", "heldout")
MIX = "mix"
MIXED_KINDS = ("magic", "entry", "word", "record")


@dataclass(frozen=True)
class Template:
    """A family of needles.

    ``answer_prefix`` with the value and ``ending`` behind it is the needle's sentence. ``key`` and
    ``value`` name what is drawn: ``word`` or ``words`` (two of them), ``digitsN``, or ``none``.
    """

    name: str
    asked: str
    answer_prefix: str
    key: str
    value: str
    ending: str = "."
    trained: bool = True

    @property
    def question(self) -> str:
        """The question, with the beginning of the answer; ``{key}`` is open."""
        return f"Question: {self.asked} Answer: {self.answer_prefix}"

    @property
    def sentence(self) -> str:
        """The fact itself; ``{key}`` and ``{value}`` are open."""
        return f"{self.answer_prefix} {{value}}{self.ending}"


@dataclass(frozen=True)
class Needle:
    """One fact, its question, and the answer: the text that must follow the question."""

    kind: str
    key: str
    value: str
    sentence: str
    question: str
    answer: str

    @property
    def asked(self) -> str:
        """The question without the beginning of the answer, to be put before a document."""
        return self.question.partition(" Answer:")[0]


_TEMPLATES: dict[str, Template] = {}


def register_template(template: Template) -> Template:
    """Add a template to the registry; a name that is taken is an error."""
    if template.name in _TEMPLATES or template.name == MIX:
        raise LocretError(f"a template named {template.name!r} exists already")
    _TEMPLATES[template.name] = template
    return template


for _template in (
    Template(
        "magic",
        "What is the magic number for {key}?",
        "The magic number for {key} is",
        "word",
        "digits4",
    ),
    Template("entry", "What is the entry of {key}?", "Entry {key}", "word", "digits4"),
    Template(
        "word",
        "What is the secret word of {key}?",
        "The secret word of {key} is",
        "word",
        "words",
    ),
    Template("record", "What does record {key} hold?", "Record {key} holds", "digits3", "digits4"),
    Template(
        "passkey",
        "What is the pass key?",
        "The pass key is",
        "none",
        "digits5",
        ending=". Remember it.",
    ),
    Template("dial", "How can {key} be reached?", "To reach {key} dial", "word", "digits4"),
    Template("room", "Where does {key} live?", "{key} lives in room", "word", "digits3"),
    Template("price", "What does one {key} cost?", "In coins one {key} costs", "word", "digits4"),
    Template("friend", "Who is the best friend of {key}?", "{key} likes best", "word", "word"),
    Template(
        "drawer",
        "What is kept in drawer {key}?",
        "In drawer {key} they keep the",
        "digits3",
        "word",
    ),
    Template("maps", "What does {key} map to?", "{key} maps to", "word", "words"),
    Template(
        "code",
        "What is the access code of {key}?",
        "The access code of {key} is",
        "word",
        "digits4",
        trained=False,
    ),
    Template(
        "city",
        "What is the home town of {key}?",
        "The home town of {key} is",
        "word",
        "words",
        trained=False,
    ),
):
    register_template(_template)


def get_template(name: str) -> Template:
    """The template of this name."""
    if name not in _TEMPLATES:
        raise LocretError(f"unknown kind of needle {name!r}; known: {', '.join(kinds())}")
    return _TEMPLATES[name]


def templates() -> tuple[Template, ...]:
    """All registered templates, in the order in which they were registered."""
    return tuple(_TEMPLATES.values())


def kinds() -> tuple[str, ...]:
    """What ``draw_needles`` takes as a kind: every template's name, and ``mix``."""
    return (*_TEMPLATES, MIX)


def is_held_out(key: str) -> bool:
    """Whether a word or number belongs to the fifth that training never sees as key or value."""
    return zlib.crc32(key.encode()) % HELD_OUT_MODULUS == 0


@functools.cache
def words(split: str = "trained") -> tuple[str, ...]:
    """The words and made-up names of one split of the package's list."""
    if split not in SPLITS:
        raise LocretError(f"keys are 'trained' or 'heldout', not {split!r}")
    text = importlib.resources.files("locret.eval").joinpath("words.txt").read_text("utf-8")
    return tuple(word for word in text.split() if is_held_out(word) == (split == "heldout"))


@functools.cache
def _numbers(digits: int, split: str) -> tuple[str, ...]:
    """The numbers of ``digits`` digits that are keys of one split."""
    held_out = split == "heldout"
    every = (str(number) for number in range(10 ** (digits - 1), 10**digits))
    return tuple(number for number in every if is_held_out(number) == held_out)


def draw_number(digits: int, rng: random.Random) -> str:
    """A number of exactly ``digits`` digits."""
    return str(rng.randrange(10 ** (digits - 1), 10**digits))


def _draw_key(what: str, rng: random.Random, split: str) -> str:
    if what == "none":
        return ""
    if what == "word":
        return rng.choice(words(split))
    return rng.choice(_numbers(int(what.removeprefix("digits")), split))


def _draw_value(what: str, rng: random.Random, split: str) -> str:
    """A value; numbers are drawn from all numbers, words from the split."""
    if what == "words":
        return " ".join(rng.choices(words(split), k=2))
    if what == "word":
        return rng.choice(words(split))
    return draw_number(int(what.removeprefix("digits")), rng)


def fill(template: Template, key: str, value: str) -> Needle:
    """The needle that a template makes of a key and a value."""
    return Needle(
        kind=template.name,
        key=key,
        value=value,
        sentence=template.sentence.format(key=key, value=value),
        question=template.question.format(key=key),
        answer=f" {value}",
    )


def draw_from(choose: Callable[[], Template], count: int, rng: random.Random, keys: str = "trained") -> list[Needle]:
    """``count`` needles of the templates that ``choose`` gives, no key twice in one template."""
    drawn: dict[tuple[str, str], Needle] = {}
    for _ in range(100 * count + 100):
        if len(drawn) == count:
            break
        template = choose()
        key = _draw_key(template.key, rng, keys)
        value = _draw_value(template.value, rng, keys)
        drawn.setdefault((template.name, key), fill(template, key, value))
    if len(drawn) < count:
        raise LocretError(f"there are not {count} different keys for these needles")
    return list(drawn.values())


def draw_needles(kind: str, count: int, rng: random.Random, keys: str = "trained") -> list[Needle]:
    """Draw ``count`` needles of one kind with different keys.

    ``mix`` shares the count between the kinds of ``MIXED_KINDS``; ``passkey`` has no key, so only one can be
    drawn. ``keys`` is ``trained`` or ``heldout``. The same state of ``rng`` gives the same needles.
    """
    if count < 1:
        raise LocretError(f"the number of needles must be at least 1, not {count}")
    words(keys)  # an unknown split is refused here, whatever the kind
    if kind == MIX:
        shares = Counter(itertools.islice(itertools.cycle(MIXED_KINDS), count))
        return [needle for name, share in shares.items() for needle in draw_needles(name, share, rng, keys)]
    template = get_template(kind)
    if template.key == "none" and count > 1:
        raise LocretError(f"a context holds one {kind} only, not {count}")
    return draw_from(lambda: template, count, rng, keys)


def is_correct(answer_text: str, needle: Needle) -> bool:
    """Whether a continuation of the question begins with exactly the needle's value."""
    text = answer_text.lstrip()
    rest = text[len(needle.value) :]
    return text.startswith(needle.value) and not (rest and (rest[0].isalnum() or rest[0] == "_"))


DECOY_FORMS = (
    "In {number} the {word} was closed.",
    "About {number} people saw the {word}.",
    "The {word} was sold for {number} pounds.",
    "They counted {number} of them near the {word}.",
)


def draw_decoys(count: int, rng: random.Random, keys: str = "trained") -> list[str]:
    """``count`` sentences with a number of four or five digits that nobody asks for."""
    return [
        rng.choice(DECOY_FORMS).format(number=draw_number(rng.choice((4, 5)), rng), word=rng.choice(words(keys)))
        for _ in range(count)
    ]
