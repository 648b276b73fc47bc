"""The contract of a model family: every registered one has a tiny model, and its adapter finds what it should."""

from __future__ import annotations

import pytest
import torch

from locret.models.families import attention_modules, decoder_of, family_of, list_families, shapes_of
from locret.models.taps import tap_projections
from tests.conftest import TINY_MODELS

every_family = pytest.mark.parametrize("family", list_families())


def test_every_family_has_a_tiny_model_for_the_tests() -> None:
    assert sorted(TINY_MODELS) == list_families()


@every_family
def test_projections_are_found_in_every_layer(family: str) -> None:
    model = TINY_MODELS[family]()
    shapes = shapes_of(model.config)
    assert family_of(model.config).model_type == family
    assert len(attention_modules(model)) == len(decoder_of(model).layers) == shapes.layers
    seen = {}
    with torch.no_grad(), tap_projections(model, lambda layer, projections: seen.update({layer: projections})):
        model(torch.arange(1, 8)[None])
    assert sorted(seen) == list(range(shapes.layers))
    kv = shapes.kv_heads * shapes.head_dim
    for q, k, v in seen.values():
        assert q.shape == (1, 7, shapes.q_heads * shapes.head_dim)
        assert k.shape == v.shape == (1, 7, kv)
        assert q.shape[-1] + k.shape[-1] + v.shape[-1] == shapes.features
