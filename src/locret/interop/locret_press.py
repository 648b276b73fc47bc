"""`LocretPress`: retaining heads as a press, for users of kvpress. Importing this module needs kvpress."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from locret.interop.presses import load_kvpress, supply_cache_position
from locret.models.families import family_of, shapes_of
from locret.models.heads import RetainingHeads


@dataclass
class LocretPress(load_kvpress().ScorerPress):  # type: ignore[misc]
    """Prune by the scores of retaining heads (https://arxiv.org/abs/2410.01805) after a dense prefill.

    The scores are those of the policy `locret`; reading in fixed memory, stabilizers and the local tail belong to
    locret's own engine and are not part of it. It works alone and inside wrappers such as `ChunkPress`; a wrapper has
    to be used inside `supply_cache_position(model)`, which this press brings along.

    Args:
        compression_ratio: part of the units that is pruned.
        heads: the retaining heads of the model that is used.
    """

    heads: RetainingHeads = field(kw_only=True)

    def post_init_from_model(self, model: nn.Module) -> None:
        """Refuse heads of another model; take them as this one needs them.

        Raises:
            LocretError: the heads do not fit.
        """
        self.heads.check_fits(model)
        self._placed = self.heads.beside(model)

    @contextmanager
    def __call__(self, model: nn.Module) -> Iterator[None]:
        """Compress what `model` reads inside the block."""
        with supply_cache_position(model), super().__call__(model):
            yield

    def score(
        self, module: Any, hidden_states: Tensor, keys: Tensor, values: Tensor, attentions: Tensor | None, kwargs: Any
    ) -> Tensor:
        """Scores of all tokens, fp32: [batch, kv_heads, tokens].

        Args:
            module: the attention module of the layer.
            hidden_states: [batch, tokens, hidden], its input; its projections are computed once more.
            keys, values, attentions, kwargs: not looked at.
        """
        family = family_of(module.config)
        outputs = [module.get_submodule(name)(hidden_states) for name in family.projections]
        return self._placed.score(module.layer_idx, family.split(outputs, shapes_of(module.config)))
