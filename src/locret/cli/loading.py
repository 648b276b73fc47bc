"""Loading what `--model`, `--heads` and `--policy` name. Names are checked before any weights are read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from locret.errors import LocretError
from locret.interop.kvpress import PREFIX, get_press
from locret.interop.press_policy import PressPolicy
from locret.models.heads import RetainingHeads
from locret.models.loading import load_model
from locret.policies import Policy, get_policy, list_policies, policy_options

if TYPE_CHECKING:
    from locret.eval.reading import Compared


@dataclass(frozen=True)
class Loaded:
    """A model ready for use: with its tokenizer, and heads if there are any."""

    model: Any
    tokenizer: Any
    heads: RetainingHeads | None

    def policy(self, name: str, seed: int = 0) -> Policy:
        """The policy `name`, with heads or seed where it takes them.

        Raises:
            LocretError: it needs heads and there are none.
        """
        given = {"heads": self.heads, "seed": seed}
        options = {option: given[option] for option in policy_options(name) if option in given}
        if "heads" in options and self.heads is None:
            raise LocretError(
                f"policy {name!r} needs retaining heads and none came with this model: "
                "name them with --heads, or train them with `locret train`"
            )
        return get_policy(name, **options)

    def compared(self, name: str) -> Compared:
        """The policy `name`, or the press of kvpress that it names.

        Raises:
            LocretError: as `policy` does, or there is no such press.
        """
        return PressPolicy(name.removeprefix(PREFIX)) if name.startswith(PREFIX) else self.policy(name)


def check_policies(names: Sequence[str], presses: bool = False) -> None:
    """Refuse unknown policies; presses of kvpress, too, unless they can be used.

    Raises:
        LocretError: naming the policy, and the ones there are.
    """
    known = list_policies()
    for name in names:
        if name.startswith(PREFIX) and not presses:
            raise LocretError(f"{name} can only be compared: `locret eval --policies {name}`")
        if name.startswith(PREFIX):
            get_press(name.removeprefix(PREFIX))
        elif name not in known:
            raise LocretError(f"unknown policy {name!r}: choose one of {', '.join(known)}")


def load(model: str, heads: str | None, dtype: str, device: str, **options: Any) -> Loaded:
    """Load a model, and heads from `heads` instead of its own if that is given; further options are `load_model`'s."""
    chosen = RetainingHeads.from_pretrained(heads) if heads else None
    backbone, tokenizer, own = load_model(model, dtype, device, **options)
    return Loaded(backbone, tokenizer, chosen or own)
