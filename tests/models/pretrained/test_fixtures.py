"""The fixtures tell options apart: with another value of any of them the scores differ."""

import jax
import numpy as np
import pytest
from pretrained_cases import scores_of

from rljax.models.network import Network
from rljax.models.pretrained import read_config

TOLERANCE = 1e-4  # of test_parity.py


@pytest.mark.parametrize(
    "case, changes",
    [
        ("mistral_window", dict(sliding_window=0)),
        ("mistral_window", dict(sliding_window=5)),
        ("qwen2_window", dict(sliding_window=0)),
        ("gemma2", dict(global_every=3)),
        ("gemma2", dict(attention_softcap=0.0)),
        ("gemma2", dict(attention_scale=0.0)),
        ("gemma2", dict(embedding_scale=1.0)),
        ("gemma3_text", dict(global_every=2)),
        ("gemma3_text", dict(local_rope_base=0.0)),
        ("gemma3_text", dict(rope_scaling=None)),
        ("gemma3_text", dict(norm_offset=0.0)),
        ("llama3_tied", dict(rope_scaling=None)),
        ("llama_linear", dict(rope_scaling=None)),
        ("qwen2_yarn", dict(rope_scaling=None)),
        ("qwen3_moe", dict(normalise_router=True)),
        ("qwen3_moe_normalised", dict(experts_per_token=1)),
        ("llada", dict(causal=True)),
        ("dream", dict(causal=True, shift_logits=False)),
        ("olmo2", dict(norm_epsilon=1e-6)),
    ],
    ids=lambda value: value if isinstance(value, str) else next(iter(value)),
)
def test_every_option_matters_to_its_fixture(load_case, case, changes):
    loaded = load_case(case)
    other = Network.create(read_config(loaded.folder, **changes))
    compute = jax.jit(lambda params: scores_of(other, params, loaded.rows))
    scores = np.asarray(compute(loaded.params))
    real = np.asarray(loaded.rows[2]) > 0
    assert np.abs(scores - loaded.theirs.scores)[real].max() > 10 * TOLERANCE
