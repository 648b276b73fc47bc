"""The layer by layer pass against a loss over all layers at once."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from transformers import LlamaForCausalLM
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from locret.errors import LocretError
from locret.models.families import Projections
from locret.models.heads import RetainingHeads
from locret.models.taps import tap_projections
from locret.train.config import TrainConfig
from locret.train.labels import attention_labels
from locret.train.loss import layer_loss, top_recall
from locret.train.samples import Sample
from locret.train.streaming import accumulate_gradients

CONFIG = TrainConfig(steps=10, smoothness=0.3, max_length=64)
CPU = torch.device("cpu")


@pytest.fixture
def sample() -> Sample:
    torch.manual_seed(1)
    answer = torch.zeros(40, dtype=torch.bool)
    answer[[30, 31, 36, 37]] = True
    return Sample(torch.randint(0, 97, (40,)), answer, 30)


def heads_for(model: LlamaForCausalLM) -> RetainingHeads:
    torch.manual_seed(2)
    return RetainingHeads.from_config(model.config, width=16)


def whole_loss(model: LlamaForCausalLM, heads: RetainingHeads, sample: Sample) -> Tensor:
    """The paper's loss as it is written, every layer's scores and labels kept."""
    collected: dict[int, Projections] = {}
    with torch.no_grad(), tap_projections(model, collected.__setitem__):
        model(input_ids=sample.input_ids[None])
    cos, sin = model.model.rotary_emb(collected[0].q, torch.arange(40)[None])
    scores, labels = [], []
    for layer, projections in sorted(collected.items()):
        q, k = (x.unflatten(-1, (-1, 8)).transpose(1, 2) for x in projections[:2])
        q, k = apply_rotary_pos_emb(q, k, cos, sin)
        labels.append(attention_labels(q[0], k[0], sample.rows, 30, 8**-0.5, "logits"))
        scores.append(heads.score(layer, projections)[0, :, :30])
    predicted, wanted = torch.stack(scores), torch.stack(labels)
    neighbours = (predicted[..., 1:] - predicted[..., :-1]).square().mean(dim=(1, 2)).sum()
    return functional.smooth_l1_loss(predicted, wanted) + CONFIG.smoothness * neighbours


def test_rows_are_the_answers_and_the_token_before_each(sample: Sample) -> None:
    assert sample.rows.tolist() == [29, 30, 31, 35, 36, 37]


def test_streamed_gradients_equal_those_of_the_whole_loss(model: LlamaForCausalLM, sample: Sample) -> None:
    streamed, whole = heads_for(model), heads_for(model)
    measures = accumulate_gradients(model, streamed, sample, CONFIG, CPU)
    loss = whole_loss(model, whole, sample)
    loss.backward()
    assert measures.loss == pytest.approx(loss.item(), rel=1e-5)
    assert 0 <= measures.recall <= 1
    for mine, theirs in zip(streamed.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad, atol=1e-6, rtol=1e-4)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_weights_scale_and_gradients_add_up(model: LlamaForCausalLM, sample: Sample) -> None:
    once, twice = heads_for(model), heads_for(model)
    accumulate_gradients(model, once, sample, CONFIG, CPU)
    for _ in range(2):
        accumulate_gradients(model, twice, sample, CONFIG, CPU, weight=0.5)
    for mine, theirs in zip(once.parameters(), twice.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad)


def test_bfloat16_is_close(model: LlamaForCausalLM, sample: Sample) -> None:
    config = TrainConfig(steps=10, smoothness=0.3, dtype="bfloat16")
    half, single = heads_for(model), heads_for(model)
    low = accumulate_gradients(model, half, sample, config, CPU)
    full = accumulate_gradients(model, single, sample, CONFIG, CPU)
    assert low.loss == pytest.approx(full.loss, rel=0.1)
    for mine, theirs in zip(half.parameters(), single.parameters(), strict=True):
        assert mine.grad is not None and theirs.grad is not None
        assert mine.grad.dtype == torch.float32
        assert functional.cosine_similarity(mine.grad.flatten(), theirs.grad.flatten(), dim=0) > 0.98


def test_a_loss_that_is_not_finite_is_refused(model: LlamaForCausalLM, sample: Sample) -> None:
    heads = heads_for(model)
    next(heads.parameters()).data.fill_(torch.nan)
    with pytest.raises(LocretError, match="the loss is nan"):
        accumulate_gradients(model, heads, sample, CONFIG, CPU)


def test_loss_terms_and_recall_by_hand() -> None:
    scores = torch.tensor([[0.0, 1.0, 3.0]])
    loss = layer_loss(scores, torch.tensor([[0.0, 1.5, 5.0]]), layers=2, smoothness=0.1)
    assert loss.fit.item() == pytest.approx((0 + 0.125 + 1.5) / 3 / 2)
    assert loss.smoothness.item() == pytest.approx(0.1 * (1 + 4) / 2)
    ranking = torch.arange(32.0)[None]
    assert top_recall(ranking, ranking) == 1
    assert top_recall(ranking, -ranking) == 0
    assert top_recall(ranking, ranking.roll(1)) == 0.5
