"""Facts that SmolLM2's heads are trained on: made up, in plain English, and asked for in the chat.

None of them is a template of `locret.eval.fidelity.facts`, which the exhibit asks for, or of `locret.eval.needles`.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from locret.eval.needles import words

GENERAL = 0.6  # of the facts are of `FORMS`

PLACES = (
    "the old mill", "the harbour office", "the north gate", "the village school", "the brewery", "the observatory",
    "the lighthouse", "the town archive", "the east tower", "the post office", "the boathouse", "the bakery",
    "the museum", "the railway depot", "the orchard house", "the chapel", "the customs house", "the printing shop",
)  # fmt: skip
PEOPLE = (
    "Agnes Thorley", "Victor Ames", "Ines Calder", "Rupert Hale", "Marta Lindqvist", "Owen Pryce", "Clara Voss",
    "Desmond Akers", "Lucia Ferro", "Henry Batten", "Nadia Osman", "Piers Colman", "Tessa Rowe", "Ivo Marek",
    "Georgia Stamp", "Leon Fisk", "Priya Nair", "Walter Quill", "Sofia Brandt", "Amos Reed",
)  # fmt: skip
THINGS = (
    "copper kettle", "green umbrella", "brass telescope", "silver flute", "walnut cabinet", "glass marble",
    "red lantern", "leather satchel", "ivory comb", "tin soldier", "velvet curtain", "iron anchor", "paper kite",
    "stone lion",
)  # fmt: skip
TOWNS = (
    "Alderbrook", "Fenwick", "Harrowgate", "Lindale", "Mossley", "Norwick", "Penrose", "Quarrington", "Redmarsh",
    "Silverton", "Thornbury", "Upwood", "Westerham", "Yarmouth", "Zeal", "Kirkby",
)  # fmt: skip
COLOURS = ("amber", "crimson", "indigo", "ivory", "olive", "scarlet", "teal", "violet", "white", "yellow")
TRADES = ("baker", "carpenter", "doctor", "engraver", "fisherman", "gardener", "notary", "painter", "tailor", "weaver")
MONTHS = ("January", "March", "April", "May", "June", "August", "September", "October", "November", "December")
TRAITS = (
    "account", "age", "badge", "boat", "cabin", "card", "colour", "dog", "emblem", "flat", "flower", "fortune", "game",
    "height", "home town", "invoice", "job", "keyword", "licence", "lucky number", "motto", "neighbour", "office",
    "order", "partner", "plate", "prize", "rank", "recipe", "room", "seat", "secret", "serial number", "sign", "song",
    "stamp", "street", "table", "team", "teacher", "ticket", "train", "uncle", "vault", "village", "weapon", "wish",
)  # fmt: skip
# Sentences about anybody and anything: {trait} of {name} comes to {value}.
FORMS = (
    ("The {trait} of {name} is {value}.", "What is the {trait} of {name}?"),
    ("{name} has {value} as {trait}.", "What does {name} have as {trait}?"),
    ("As everybody in {town} knows, the {trait} of {name} is {value}.", "What is the {trait} of {name}?"),
    ("{value} was given to {name} as {trait}.", "What was given to {name} as {trait}?"),
    ("In {year} {name} chose {value} for the {trait}.", "What did {name} choose for the {trait} in {year}?"),
    ("The book of {name} gives {value} for the {trait}.", "What does the book of {name} give for the {trait}?"),
)


@dataclass(frozen=True, slots=True)
class Fact:
    """A sentence of a document, and a question about it with its answer."""

    sentence: str
    question: str
    answer: str


def draw_facts(count: int, rng: random.Random) -> list[Fact]:
    """`count` facts; no two have one question."""
    facts: dict[str, Fact] = {}
    while len(facts) < count:
        fact = _general(rng) if rng.random() < GENERAL else _particular(rng)
        facts.setdefault(fact.question, fact)
    return list(facts.values())


def _general(rng: random.Random) -> Fact:
    """A fact of `FORMS`; names and values may be any word, as a name can be."""
    word, number = rng.choice(words("trained")), str(rng.randint(10, 99999))
    two = f"{rng.choice(words('trained'))} {rng.choice(words('trained'))}"
    value = rng.choice((number, number, word.capitalize(), two, rng.choice(COLOURS), rng.choice(TOWNS)))
    name = rng.choice((rng.choice(words("trained")).capitalize(), rng.choice(PEOPLE), rng.choice(TOWNS)))
    filled = {"name": name, "value": value, "trait": rng.choice(TRAITS), "town": rng.choice(TOWNS)}
    filled["year"] = str(rng.randint(1650, 1990))
    sentence, question = (text.format(**filled) for text in rng.choice(FORMS))
    return _answered(sentence, question, value, rng)


def _particular(rng: random.Random) -> Fact:
    """A fact as a chronicle might tell it."""
    place, person, thing, town = (rng.choice(kind) for kind in (PLACES, PEOPLE, THINGS, TOWNS))
    trade, colour = rng.choice(TRADES), rng.choice(COLOURS)
    code, year, price = str(rng.randint(1000, 9999999)), str(rng.randint(1650, 1990)), str(rng.randint(3, 950))
    day = f"{rng.randint(1, 28)} {rng.choice(MONTHS)}"
    asked = (
        (f"The key to {place} is number {code}.", f"What is the number of the key to {place}?", code),
        (f"The code that opens the door of {place} is {code}.", f"What code opens the door of {place}?", code),
        (f"{person} was born in {town} in {year}.", f"Where was {person} born?", town),
        (f"It was in {year} that {person} moved to {town}.", f"In which year did {person} move to {town}?", year),
        (f"{person} works as a {trade} in {town}.", f"What does {person} work as?", f"A {trade}"),
        (f"The {thing} was sold to {person} for {price} crowns.", f"Who bought the {thing}?", person),
        (f"The {thing} was sold for {price} crowns.", f"For how many crowns was the {thing} sold?", price),
        (f"{person} hid the {thing} in {place}.", f"Where did {person} hide the {thing}?", place.capitalize()),
        (f"The door of {place} is painted {colour}.", f"What colour is the door of {place}?", colour.capitalize()),
        (f"The telephone number of {person} is {code}.", f"What is the telephone number of {person}?", code),
        (f"The meeting at {place} was moved to {day}.", f"To which day was the meeting at {place} moved?", day),
        (f"The owner of {place} is called {person}.", f"What is the name of the owner of {place}?", person),
    )
    return _answered(*rng.choice(asked), rng)


def _answered(sentence: str, question: str, answer: str, rng: random.Random) -> Fact:
    """SmolLM2 likes to answer in a sentence, so half of the answers are one."""
    return Fact(sentence, question, sentence if rng.random() < 0.5 else f"{answer}.")
