"""Attention: who sees whom, and the kernels that compute it.

select.py      the choice of a kernel for whole rows, by `config.attention` and the platform
visibility.py  masks: segments, causality, windows
dense.py       XLA: every score is computed and held
group.py       XLA: rows of one prompt and several completions
cudnn.py       GPU: fused
splash.py      TPU: fused
partial.py     attention in parts that are merged: prompt, own cache, the token itself
ragged.py      TPU: the part over a row's own cache; and the choice of its kernel, by
               `config.decode_attention`
"""

from rljax.models.attention.dense import dense, soft_cap
from rljax.models.attention.group import GroupLayout
from rljax.models.attention.select import (
    LayerAttend,
    check_group,
    make_attend,
    platform,
    resolve_kernel,
)
from rljax.models.attention.visibility import attention_mask

__all__ = [
    "GroupLayout",
    "LayerAttend",
    "attention_mask",
    "check_group",
    "dense",
    "make_attend",
    "platform",
    "resolve_kernel",
    "soft_cap",
]
