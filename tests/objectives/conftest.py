"""Inputs that the surrogates' tests share."""

import jax.numpy as jnp
import pytest


@pytest.fixture
def with_batch_inputs():
    """Adds what surrogates know of the whole batch, so chosen that none of it matters on policy."""

    def complete(arrays):
        logprobs, mask = arrays["logprobs"], arrays["mask"]
        nothing = jnp.zeros(mask.shape)
        return {
            "behavior_logprobs": arrays["old_logprobs"],
            "proxy_logprobs": logprobs,
            "high_covariance": nothing.astype(bool),
            "rare_negatives": nothing.astype(bool),
            "entropy_level": nothing,
            "score_weights": arrays["advantages"],
            "kl_pressure": nothing,
            "segment_ids": jnp.broadcast_to(jnp.arange(mask.shape[1]) // 2, mask.shape),
            **arrays,
            # For the one whose advantage is how much more the reference likes a token.
            "ref_logprobs": logprobs + arrays["advantages"],
        }

    return complete
