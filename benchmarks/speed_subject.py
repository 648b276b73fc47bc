"""The models that are timed: the built-in one, and shapes of random weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

import locret
from locret.bench import Contestant, random_heads, random_model
from locret.bench.line_up import line_up
from locret.errors import LocretError
from locret.plan import Sizes, find_config, sizes_of
from locret.policies import Policy, policy_options

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Subject:
    """A model with heads, and how it reads.

    Attributes:
        name: what it is called in the configuration.
        model: in fp32, on the CPU.
        heads: trained ones, or random ones where the weights are random.
        settings: its entry in the configuration.
        budget: how it reads.
        sizes: of the model.
    """

    name: str
    model: Any
    heads: locret.RetainingHeads
    settings: dict[str, Any]
    budget: locret.Budget
    sizes: Sizes = field(repr=False)

    @property
    def length(self) -> int:
        """Tokens of its prompt."""
        return int(self.settings["length"])

    def ids(self, length: int) -> list[int]:
        """A prompt of random tokens: what is read does not change the time."""
        generator = torch.Generator().manual_seed(0)
        return torch.randint(self.sizes.vocabulary, (length,), generator=generator).tolist()

    def policy(self, name: str) -> Policy:
        """A policy by name, with the heads if it takes any."""
        return locret.get_policy(name, **({"heads": self.heads} if "heads" in policy_options(name) else {}))

    def contestants(self, names: Sequence[str], new_tokens: int = 1) -> list[Contestant]:
        """Those of these names, all with the subject's budget."""
        return line_up(names, self.model, self.policy, self.budget, new_tokens)


def load_subject(name: str, models: dict[str, dict[str, Any]]) -> Subject:
    """A subject of the configuration.

    Raises:
        LocretError: there is none of that name.
    """
    if name not in models:
        raise LocretError(f"no model {name!r} in the configuration: it has {', '.join(models)}")
    settings = models[name]
    if "shape" in settings:
        config = find_config(settings["shape"])
        config.num_hidden_layers = settings["layers"]
        model = random_model(config, torch.float32, CPU)
        heads = random_heads(model, settings["width"])
    else:
        model, _, heads = locret.load_builtin()
    model.generation_config.eos_token_id = None  # answers to random tokens are as long as they are wanted
    return Subject(name, model, heads, settings, locret.Budget(**settings["budget"]), sizes_of(model.config))
