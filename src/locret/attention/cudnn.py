"""cuDNN's attention, for what is computed often: on Hopper it takes little more than half as long as flash attention.

It needs a plan for every shape, which takes longer to make than many calls take. The chunks of a long prompt have one
shape, once the budget is full, and soon are worth it; the end of a prompt, or a question, is not.

torch's own switch turns it off: `torch.backends.cuda.enable_cudnn_sdp(False)`.
"""

from __future__ import annotations

from collections import Counter

import torch
from torch import Tensor
from torch.backends.cuda import SDPAParams, can_use_cudnn_attention

HOPPER = 9  # compute capability; on older devices it is not known to be faster
CALLS = 256  # before a shape gets a plan: what they would have saved is about what it costs (docs/speed.md)
SHAPES = 1024  # that are counted at a time

_calls: Counter[tuple[object, ...]] = Counter()


def pays(query: Tensor, key: Tensor, value: Tensor, causal: bool) -> bool:
    """Count a call; whether it is one for cuDNN.

    Args:
        query: [batch, q_heads, queries, head_dim].
        key, value: [batch, kv_heads, keys, head_dim].
        causal: as of `cudnn_attention_with_lse`.
    """
    if torch.cuda.get_device_capability(query.device)[0] < HOPPER:
        return False
    # What plans are told apart by.
    shape = (query.device, query.dtype, causal, *((part.shape, part.stride()) for part in (query, key, value)))
    if len(_calls) >= SHAPES and shape not in _calls:
        _calls.clear()
    _calls[shape] += 1
    if _calls[shape] <= CALLS:
        return False
    grouped = query.shape[1] != key.shape[1]
    return bool(can_use_cudnn_attention(SDPAParams(query, key, value, None, 0.0, causal, grouped)))


def cudnn_attention_with_lse(
    query: Tensor, key: Tensor, value: Tensor, scaling: float, causal: bool
) -> tuple[Tensor, Tensor]:
    """See `locret.attention.lse.attention_with_lse`."""
    output, lse, *_ = torch.ops.aten._scaled_dot_product_cudnn_attention(
        query, key, value, None, True, 0.0, causal, False, scale=scaling
    )
    return output, lse.reshape(output.shape[:-1])
