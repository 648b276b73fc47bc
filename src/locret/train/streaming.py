"""One sample's labels, loss and gradients, computed while the backbone reads it once.

In every layer the retaining head sees the projections, the labels are made from the queries and
keys, and the layer's loss is differentiated at once. So no labels are stored, and the memory needed
is that of one layer, whatever the number of layers.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from locret.attention.observe import observe_attention
from locret.errors import LocretError
from locret.models.families import Projections, decoder_of
from locret.models.heads import RetainingHeads
from locret.models.taps import tap_projections
from locret.train.config import TrainConfig
from locret.train.labels import attention_labels
from locret.train.loss import layer_loss, top_recall
from locret.train.samples import Sample


@dataclass(frozen=True, slots=True)
class Measures:
    """What is reported of a sample or of a step: means over samples, sums over layers."""

    fit: float
    smoothness: float
    recall: float

    @property
    def loss(self) -> float:
        """The whole loss."""
        return self.fit + self.smoothness


@dataclass
class _LayerwiseLoss:
    """Collects one forward pass: projections arrive first in each layer, attention second."""

    heads: RetainingHeads
    config: TrainConfig
    prompt_length: int
    rows: Tensor  # query rows of the labels, int64
    weight: float
    projections: dict[int, Projections] = field(default_factory=dict)
    sums: list[Tensor] = field(default_factory=list)  # per layer: fp32 [fit, smoothness, recall]

    def receive(self, layer: int, projections: Projections) -> None:
        """Keep the prompt's projections until the layer's attention is seen."""
        self.projections[layer] = Projections(*(x[:, : self.prompt_length] for x in projections))

    def observe(self, layer: int, query: Tensor, key: Tensor, _: Tensor, scaling: float) -> None:
        """Labels, loss and gradients of one layer."""
        layers = self.heads.config.layers
        labels = attention_labels(  # [kv_heads, prompt]
            query[0], key[0], self.rows, self.prompt_length, scaling, self.config.objective
        )
        projections = self.projections.pop(layer)
        with torch.enable_grad():
            scores = self.heads.score(layer, projections)[0]  # [kv_heads, prompt]
            loss = layer_loss(scores, labels, layers, self.config.smoothness)
            ((loss.fit + loss.smoothness) * self.weight).backward()
        recall = top_recall(scores.detach(), labels) / layers
        self.sums.append(torch.stack([loss.fit.detach(), loss.smoothness.detach(), recall]))


def accumulate_gradients(
    model: nn.Module,
    heads: RetainingHeads,
    sample: Sample,
    config: TrainConfig,
    device: torch.device,
    weight: float = 1.0,
) -> Measures:
    """Add `weight` times the gradients of one sample's loss to the heads' gradients.

    Raises:
        LocretError: the loss is not finite.
    """
    collected = _LayerwiseLoss(heads, config, sample.prompt_length, sample.rows.to(device), weight)
    low = config.dtype == "bfloat16"
    with (
        torch.no_grad(),
        torch.autocast(device.type, torch.bfloat16, enabled=low),
        tap_projections(model, collected.receive),
        observe_attention(model, collected.observe),
    ):
        ids = sample.input_ids.to(device)[None]  # [1, tokens]
        decoder_of(model)(input_ids=ids, use_cache=False)
    measures = Measures(*torch.stack(collected.sums).sum(dim=0).tolist())
    if not torch.isfinite(torch.tensor(measures.loss)):
        raise LocretError(
            f"the loss is {measures.loss}: the backbone's attention or the heads overflow; "
            "try --dtype float32 or a lower --lr"
        )
    return measures
