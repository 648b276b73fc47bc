"""Variable tracking: one value is handed on through a chain of variables, among noise."""

from __future__ import annotations

import random
import string
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

from locret.eval.ruler.contract import Drafter, Setup
from locret.eval.ruler.haystack import LineHaystack
from locret.eval.ruler.niah import LINE_TOKENS
from locret.eval.ruler.sizing import fit
from locret.eval.ruler.sources import NOISE, draw_distinct, draw_letters
from locret.eval.ruler.wording import Prompt, Wording

EXAMPLE_TOKENS, EXAMPLE_SHARE = 500, 8  # the worked example: 500 tokens, in short prompts an eighth


@dataclass(frozen=True, slots=True)
class VariableTracking:
    """Parameters of variable tracking.

    Attributes:
        hops: assignments after the first.
        letters: of a variable.
        example_letters: of a variable in the worked example.
    """

    hops: int = 4
    letters: int = 5
    example_letters: int = 3

    @property
    def wording(self) -> Wording:
        """RULER's words."""
        return Wording(
            "Memorize and track the chain(s) of variable assignment hidden in the following text.\n\n",
            "\nQuestion: Find all variables that are assigned the value {query} in the text above.",
            " Answer: According to the chain(s) of variable assignment in the text above, "
            f"{self.hops + 1} variables are assigned the value {{query}}, they are: ",
        )

    def prepare(self, setup: Setup) -> Drafter:
        """Find how much noise the worked example has; the example itself is drawn for every sample."""
        noise = LineHaystack((NOISE,) * (setup.length // LINE_TOKENS))
        probe = self._draft(noise, "", self.example_letters, random.Random(0))
        room = min(EXAMPLE_TOKENS, setup.length // EXAMPLE_SHARE)
        fitted = fit(lambda n: setup.count(_solved(probe.prompt(n))), room, probe.least, probe.most)
        lines = probe.least if fitted is None else fitted

        def draft(index: int, rng: random.Random) -> TrackingDraft:
            example = self._draft(noise, "", self.example_letters, rng)
            return self._draft(noise, _solved(example.prompt(lines)), self.letters, rng)

        return draft

    def _draft(self, noise: LineHaystack, example: str, letters: int, rng: random.Random) -> TrackingDraft:
        names = draw_distinct(partial(draw_letters, string.ascii_uppercase, letters), self.hops + 1, rng)
        value = str(rng.randrange(10000, 100000))
        # Published files have a space at the end of each assignment of a variable.
        links = [f"VAR {name} = VAR {last} " for last, name in pairwise(names)]
        chain = (f"VAR {names[0]} = {value}", *links)
        depths = noise.draw_depths(len(chain), rng)
        return TrackingDraft(self.wording, noise, example, names, value, chain, depths)


@dataclass(frozen=True, slots=True)
class TrackingDraft:
    """A chain that is drawn: `names` of the variables, the `value` they all have, the `chain` of assignments."""

    wording: Wording
    noise: LineHaystack
    example: str
    names: tuple[str, ...]
    value: str
    chain: tuple[str, ...]
    depths: tuple[float, ...]
    least: int = 1

    @property
    def most(self) -> int:
        """Units of haystack at most."""
        return self.noise.most

    def prompt(self, units: int) -> Prompt:
        """The sample with so many lines of noise."""
        document = self.noise.hide(units, self.chain, self.depths)
        prefix = self.wording.answer_prefix.format(query=self.value)
        return Prompt(self.example + self.wording.input(document, query=self.value), prefix, self.names)

    def is_sound(self, prompt: Prompt) -> bool:
        """Every variable is assigned once and handed on at most once; the value is assigned and asked for."""
        handed_on = [prompt.text.count(name) for name in self.names]
        return handed_on == [2] * (len(self.names) - 1) + [1] and prompt.text.count(self.value) == 3


def _solved(prompt: Prompt) -> str:
    """A worked example: the prompt and its answer."""
    return f"{prompt.text} {' '.join(prompt.outputs)}\n\n"
