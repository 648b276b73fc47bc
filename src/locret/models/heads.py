"""Retaining heads: one small MLP a layer that predicts how much a token's KV unit will matter.

    score = fc2(act(fc1([q; k; v])))

on the projections before rotary embedding, without biases, with the model's own activation (Locret, arXiv
2410.01805). The score depends on the token alone, so it is computed once, when the token enters the cache, and beside a
model from the hidden state that the projections are made of (`locret.models.folding`).
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig
from transformers.activations import ACT2FN

from locret.errors import LocretError
from locret.memory import check_room
from locret.models.card import Card
from locret.models.families import (
    Projections,
    Shapes,
    attention_modules,
    budgeted_layers,
    family_of,
    shapes_of,
    text_config,
)
from locret.models.fingerprint import same_backbone
from locret.models.folding import can_fold, fold, versions
from locret.models.heads_config import HeadsConfig
from locret.models.heads_io import load_heads, save_heads
from locret.models.hub import push_heads
from locret.models.placement import compute_dtype, device_of
from locret.models.products import few_columns

FP32 = 4  # bytes


class RetainingHead(nn.Module):
    """The head of one layer: [batch, tokens, (q_heads + 2 kv_heads) * head_dim] -> [batch, tokens, kv_heads].

    Attributes:
        fc1, fc2, act: the head.
        folded, folded_bias: fc1 behind the model's projections; None where it is not folded. They are not saved.
    """

    folded: Tensor | None
    folded_bias: Tensor | None

    def __init__(self, shapes: Shapes, width: int, activation: str) -> None:
        super().__init__()
        self.fc1 = nn.Linear(shapes.features, width, bias=False)
        self.fc2 = nn.Linear(width, shapes.kv_heads, bias=False)
        self.act = ACT2FN[activation]
        self.overwrites = activation == "silu"
        self.folded_from: tuple[tuple[int, int], ...] = ()
        self.register_buffer("folded", None, persistent=False)
        self.register_buffer("folded_bias", None, persistent=False)

    def forward(self, projections: Projections, hidden: Tensor | None = None) -> Tensor:
        """Scores of every token for every KV head.

        Args:
            projections: q, k and v.
            hidden: [batch, tokens, hidden], what they are projections of; saves operations where the head is folded.
        """
        if hidden is None or self.folded is None or torch.is_grad_enabled():  # gradients are fc1's
            features = torch.cat(projections, dim=-1).to(self.fc1.weight.dtype)  # another one under autocast
            inner = self.fc1(features)  # [batch, tokens, width]
        else:
            inner = nn.functional.linear(hidden, self.folded, self.folded_bias)
        if self.overwrites and not torch.is_grad_enabled():
            nn.functional.silu(inner, inplace=True)  # nobody else has it, and new memory takes longer than the sigmoid
        else:
            inner = self.act(inner)
        return few_columns(inner, self.fc2.weight)

    @property
    def active(self) -> int:
        """How many weights a token goes through."""
        first = self.fc1.weight if self.folded is None else self.folded
        return first.numel() + self.fc2.weight.numel()

    def fold_into(self, projections: Sequence[nn.Module]) -> None:
        """Fold with the model's projections, where that is possible and saves anything; once, until weights change."""
        if not can_fold(self.fc1, projections):
            self.folded, self.folded_bias, self.folded_from = None, None, ()
        elif (made_of := versions(self.fc1, *projections)) != self.folded_from:
            self.folded, self.folded_bias = fold(self.fc1, projections)
            self.folded_from = made_of


class RetainingHeads(nn.Module):
    """The retaining heads of a whole model.

    Attributes:
        config: what they were made for.
        source: the folder or hub id that they were loaded from, for messages; "" for fresh ones.
    """

    def __init__(self, config: HeadsConfig) -> None:
        super().__init__()
        if torch.get_default_device().type == "cpu":
            check_room(f"retaining heads of width {config.width}", FP32 * config.parameters, "give a smaller width")
        self.config = config
        self.source = ""
        self.layers = nn.ModuleList(
            RetainingHead(config.shapes, config.width, config.activation) for _ in range(config.layers)
        )

    @classmethod
    def from_config(
        cls,
        config: Any,
        width: int = 1024,
        objective: str = "",
        fingerprint: tuple[float, ...] = (),
    ) -> RetainingHeads:
        """Fresh heads, to be trained, for the model that a transformers configuration describes.

        Raises:
            LocretError: it is no configuration, or of no supported family, or the width is no whole number from 1 on.
        """
        if not isinstance(config, PreTrainedConfig):
            raise LocretError(f"config is a {type(config).__name__}: give the configuration of a model (model.config)")
        family_of(config)
        text, shapes = text_config(config), shapes_of(config)
        activation = getattr(text, "hidden_act", None) or text.hidden_activation
        return cls(
            HeadsConfig(**asdict(shapes), model_type=text.model_type, width=width, activation=activation,
                        objective=objective, fingerprint=fingerprint)
        )  # fmt: skip

    @classmethod
    def from_pretrained(cls, path: str | Path) -> RetainingHeads:
        """Load heads from a local folder or, by its id, from the hub.

        Raises:
            LocretError: nothing there, or the files are damaged; the message names the file and the fault.
        """
        config, tensors = load_heads(path)
        heads = cls(config)
        heads.source = str(path)
        heads.load_state_dict(tensors)
        return heads.to(next(iter(tensors.values())).dtype)

    def save_pretrained(self, folder: str | Path, card: Card | None = None) -> None:
        """Write `heads.safetensors` and `heads.json` into `folder`; a failure leaves what was there before.

        Args:
            folder: is made if need be.
            card: what to tell in a README.md; without it none is written.
        """
        save_heads(self.config, self.state_dict(), Path(folder), card)

    def push_to_hub(
        self, repo_id: str, card: Card | None = None, private: bool | None = None, token: str | None = None
    ) -> str:
        """Upload the heads with a model card to the hub; the repository is made if there is none yet.

        Args:
            repo_id: owner/name.
            card: backbone, data, results and licence for the card. Without it a card that is there already stays.
            private: of a new repository; None is the owner's default.
            token: None is the one of `hf auth login`.

        Returns:
            The address of the repository.

        Raises:
            LocretError: no network, no right to write there, or the repository holds something else.
        """
        return push_heads(self.config, self.state_dict(), repo_id, card, private, token)

    @property
    def active(self) -> int:
        """How many weights a token goes through, all layers together; beside a model (`beside`) as they are folded."""
        heads: Any = self.layers
        return sum(head.active for head in heads)

    def score(self, layer: int, projections: Projections, hidden: Tensor | None = None) -> Tensor:
        """Scores of new tokens, fp32: [batch, kv_heads, tokens].

        Args:
            layer: index of the layer.
            projections: of the new tokens.
            hidden: [batch, tokens, hidden], what they are projections of, if it is at hand: the same with less work.
        """
        return self.layers[layer](projections, hidden).float().transpose(1, 2)

    def check_fits(self, model: nn.Module) -> None:
        """Make sure that these heads belong to `model`.

        Raises:
            LocretError: model type, sizes or weights differ; the message says which, and what to do.
        """
        self.check_sizes(model.config)
        if not same_backbone(self.config.fingerprint, model):
            raise LocretError(
                f"these retaining heads were trained on other weights than this {self.config.model_type} model's "
                "(the fingerprints differ): load the heads of this model, or train them with `locret train`"
                f"{self._origin}"
            )

    def check_sizes(self, config: Any) -> None:
        """Make sure that these heads were made for models of this transformers configuration.

        Raises:
            LocretError: model type or sizes differ; the message says which, and what to do.
        """
        text, shapes = text_config(config), shapes_of(config)
        mine = {"model_type": self.config.model_type, **asdict(self.config.shapes)}
        theirs = {"model_type": text.model_type, **asdict(shapes)}
        wrong = [f"{key} is {mine[key]}, the model has {theirs[key]}" for key in mine if mine[key] != theirs[key]]
        if wrong:
            raise LocretError(
                f"these retaining heads are of another model: {'; '.join(wrong)}: load its own heads{self._origin}"
            )

    @property
    def _origin(self) -> str:
        return f" (these are those of {self.source})" if self.source else ""

    def beside(self, model: nn.Module) -> RetainingHeads:
        """These heads as `model` needs them, see `place_beside`; they themselves stay as they are.

        Weights that are where and how they should be are shared. A copy is made once for a model, and again after its
        heads were trained on, or the model moved.
        """
        needs = tuple(_needs(model))
        made_of = needs, versions(*self.modules())
        with _placing:
            copies = _placed.setdefault(self, WeakKeyDictionary())
            if model not in copies or copies[model][0] != made_of:
                with torch.device("meta"):
                    twin = RetainingHeads(self.config)
                twin.load_state_dict(self.state_dict(), assign=True)
                copies[model] = made_of, twin
            placed = copies[model][1]
            placed.place_beside(model)
        return placed

    def place_beside(self, model: nn.Module) -> None:
        """Move every head to the device and dtype that its layer computes in, and fold it with the projections."""
        names, scored = family_of(model.config).projections, budgeted_layers(text_config(model.config))
        heads: Any = self.layers
        each = zip(heads, attention_modules(model), _needs(model), strict=True)
        for layer, (head, module, (device, dtype)) in enumerate(each):
            head.to(device=device, dtype=dtype)
            # A layer with a sliding window is not scored.
            head.fold_into([module.get_submodule(name) for name in names] if layer in scored else [])


def _needs(model: nn.Module) -> Iterator[tuple[torch.device, torch.dtype]]:
    """The device and precision of each layer's head."""
    config = text_config(model.config)
    for module in attention_modules(model):
        yield device_of(module), compute_dtype(module, config)


_Placed = tuple[tuple[Any, ...], RetainingHeads]
_placed: WeakKeyDictionary[RetainingHeads, WeakKeyDictionary[nn.Module, _Placed]] = WeakKeyDictionary()
_placing = threading.Lock()
