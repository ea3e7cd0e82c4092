"""Scores of completions: the same in both layouts, and those of whole rows."""

import jax
import numpy as np

from rljax.models.heads import sequence_rewards
from rljax.training.update.rows import completion_rows, group_rows
from rljax.training.update.sequence_scores import completion_scores

LENGTHS = np.array([[3, 1], [4, 0], [2, 4]])  # of completions; one is empty
PROMPTS = (2, 3, 1)


def test_both_layouts_give_the_score_of_the_last_token(tiny_network, one_device):
    network = tiny_network(head="reward")
    params = network.init(jax.random.key(1), one_device)
    random = np.random.default_rng(0)
    prompts = random.integers(1, 13, (3, 3)).astype(np.int32)
    prompt_mask = np.arange(3)[::-1] < np.array(PROMPTS)[:, None]
    tokens = random.integers(1, 13, (3, 2, 4)).astype(np.int32)
    mask = np.arange(4) < LENGTHS[..., None]
    grouped = group_rows(prompts, prompt_mask, tokens, mask)
    repeated = np.repeat(prompts, 2, axis=0), np.repeat(prompt_mask, 2, axis=0)
    apart = completion_rows(*repeated, tokens.reshape(6, 4), mask.reshape(6, 4))
    found, _ = completion_scores(network, params, grouped)
    rows, _ = completion_scores(network, params, apart)
    inputs = (apart[name] for name in ("tokens", "positions", "segment_ids"))
    expected = sequence_rewards(network, params, *inputs)[:, 0]
    assert found.shape == (3, 2) and rows.shape == (6,)
    np.testing.assert_allclose(rows, expected, atol=1e-5)
    np.testing.assert_allclose(found.reshape(-1), expected, atol=1e-5)
    assert np.abs(expected).min() > 1e-4
    # What lies behind the last token changes nothing.
    tokens[~mask] = 5
    other = completion_rows(*repeated, tokens.reshape(6, 4), apart["mask"])
    np.testing.assert_allclose(completion_scores(network, params, other)[0], rows, atol=1e-6)
